"""The adapter of VirtualBox on the host that runs the program, by its command VBoxManage."""
