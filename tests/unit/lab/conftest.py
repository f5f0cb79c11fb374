"""Fixtures of the lab's unit tests: the partition of private mappings that the native core's tests use."""

from tests.unit.abi.world import world

__all__ = ["world"]
