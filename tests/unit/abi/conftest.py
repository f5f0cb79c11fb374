"""Fixtures of the native core's tests."""

from tests.unit.abi.world import world

__all__ = ["world"]
