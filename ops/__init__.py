"""The door for people: one command line beside ``pulumi``."""
