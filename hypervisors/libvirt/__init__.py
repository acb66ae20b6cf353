"""The adapter of libvirt: everything that the program knows of it beside the lab."""
