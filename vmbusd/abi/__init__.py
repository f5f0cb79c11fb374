"""What both sides of a socket or a mapping agree on: bytes, sizes, orders, and nothing else."""
