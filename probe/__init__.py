"""Asks a running cluster and changes nothing: over SSH, and over its API."""
