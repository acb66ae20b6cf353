"""What a change of a stack would do, as one value, and the ways in which it is shown."""
