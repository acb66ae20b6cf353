"""The preview of a stack's change as one value, and the reports that show it."""
