"""Saved states that are almost right: one place of the plain data is changed, as the fuzzer's bytes say.

The bytes of a saved bus carry a checksum, so flipped bits alone never get past it. Here the data is taken
apart, changed and put together again with the right checksum: what is left is for the judging to find.
"""

from typing import Any, Final

import msgspec

from tests.fuzz.draw import Draw
from vmbusd.bus import saved
from vmbusd.bus.saved import SavedBus

NUMBERS: Final = (0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 63, 64, 255, 2047, 2048, 0xFFFF, 0xFFFFFFFF, -1, 1 << 62)
DEEPEST: Final = 12
CHANNELS: Final = SavedBus.__struct_fields__.index("channels")


def plain(state: SavedBus) -> Any:
    """The state as lists, numbers and bytes, which can be changed."""
    return msgspec.msgpack.decode(saved.encode(state)[saved.HEADER_SIZE :])


def changed(state: SavedBus, draw: Draw) -> bytes:
    """The bytes of a state in which some places were changed."""
    root = [plain(state)]
    for _ in range(1 + draw.byte() % 3):
        _change(root, draw)
    return saved.frame(msgspec.msgpack.encode(root[0]))


def _change(root: list[Any], draw: Draw) -> None:
    """Go down to some place, in every other case in a channel, then put something else there."""
    at: Any = root
    if draw.byte() % 2 and isinstance(root[0], list) and len(root[0]) > CHANNELS and root[0][CHANNELS]:
        at = root[0][CHANNELS]
    for _ in range(DEEPEST):
        key = _key(at, draw)
        if key is None:
            return
        inner = at[key]
        if not isinstance(inner, list | dict) or not inner or draw.byte() % 8 == 0:
            at[key] = _other(inner, at, draw)
            return
        at = inner


def _key(at: Any, draw: Draw) -> Any:
    if not isinstance(at, list | dict):
        return None
    if isinstance(at, dict):
        return draw.choice(sorted(at)) if at else None
    return draw.byte() % len(at) if at else None


def _other(value: Any, around: Any, draw: Draw) -> Any:
    """Something else of the same kind, mostly."""
    how = draw.byte()
    if how % 32 == 31:
        return draw.choice((None, 0, b"", [], {}, "", True, 1.5))
    if how % 32 == 30 and isinstance(around, list):
        return around[draw.byte() % len(around)]  # a neighbour's value
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + draw.choice((1, -1)) if how % 2 else draw.choice(NUMBERS)
    if isinstance(value, float):
        return draw.choice((0.0, value + 1, -1.0, float("nan"), float("inf")))
    if isinstance(value, bytes):
        return draw.take(draw.byte())
    if isinstance(value, str):
        return draw.choice(("connected", "connecting", "disconnected", "disconnecting", "gone"))
    if isinstance(value, list) and value:
        copied = value[:]
        item = copied[draw.byte() % len(copied)]
        if how % 2:
            copied.append(item)
        else:
            copied.remove(item)
        return copied
    return draw.choice(NUMBERS)
