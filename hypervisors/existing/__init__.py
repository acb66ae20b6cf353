"""The adapter of machines that exist already and are reached by SSH."""
