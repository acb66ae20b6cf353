"""Prepares a bare host for the Pulumi program: tools, artifacts, the base image, libvirt."""
