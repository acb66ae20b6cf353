"""The typed components that a stack declares."""
