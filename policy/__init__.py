"""Rules that every change of a cluster must obey, checked on the resources of a program."""
