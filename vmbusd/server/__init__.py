"""The hands of the daemon: sockets, partitions, shared memory, clocks and everything that can fail."""
