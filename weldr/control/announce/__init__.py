"""Ways to put a virtual IP in place: the kernel of this host, a command, or nothing but leadership."""
