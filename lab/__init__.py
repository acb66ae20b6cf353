"""What a bare machine needs so that the program runs: tools, artifacts, the base image, libvirt."""
