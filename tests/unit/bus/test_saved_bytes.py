"""The bytes of a saved bus: anything but what was written is refused, and an older state still reads."""

from uuid import UUID

import msgspec
import pytest

from tests.unit.bus.saved_states import busy, restored
from tests.unit.bus.script import Script, contact
from vmbusd.abi import messages, wire
from vmbusd.bus import saved
from vmbusd.bus.saved import SavedBus, SavedChannel, SavedError


def test_every_truncation_is_refused() -> None:
    """Bytes that end anywhere before their end are no saved state."""
    data = saved.encode(busy().bus.save())
    for length in range(len(data)):
        with pytest.raises(SavedError):
            saved.decode(data[:length])


def test_every_flipped_bit_is_refused() -> None:
    """One bit that is another is no saved state."""
    data = saved.encode(busy().bus.save())
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(SavedError):
            saved.decode(bytes(flipped))


def test_another_format_says_which() -> None:
    """A state of another format is refused with both numbers."""
    data = bytearray(saved.encode(busy().bus.save()))
    data[8:12] = (saved.FORMAT + 1).to_bytes(4, "little")

    with pytest.raises(SavedError, match="it has format 2, this daemon reads format 1"):
        saved.decode(bytes(data))


def test_a_wrong_value_is_named_by_its_fields() -> None:
    """The path of a value that is no such thing is in words, not in places."""
    body = saved.encode(busy().bus.save())[saved.HEADER_SIZE :]
    plain = msgspec.msgpack.decode(body)
    plain[SavedBus.__struct_fields__.index("channels")][1][SavedChannel.__struct_fields__.index("gpadls")] = [
        ["x", 1]
    ]

    with pytest.raises(SavedError, match=r"channels\[1\]\.gpadls\[0\]\.handle: Expected `int`"):
        saved.decode(saved.frame(msgspec.msgpack.encode(plain)))


def test_an_older_state_has_the_defaults_of_newer_fields() -> None:
    """Without client id, trust and pause a state still reads: nobody, not trusted, not paused (case 216)."""
    script = Script()
    client = UUID(int=0xC11E)
    script.guest(contact(wire.V6_0, features=0x28, client_id=client), trusted=True)
    script.guest(messages.Pause(), trusted=True)
    assert (script.bus.client_id, script.bus.paused) == (client, True)
    plain = msgspec.msgpack.decode(saved.encode(script.bus.save())[saved.HEADER_SIZE :])
    fields = SavedBus.__struct_fields__
    del plain[fields.index("connection")][-2:]
    del plain[fields.index("outbox")][-1:]
    state = saved.decode(saved.frame(msgspec.msgpack.encode(plain)))

    assert (state.connection.client_id, state.connection.trusted) == (UUID(int=0), False)
    assert not state.outbox.paused
    bus = restored(state)
    assert (bus.client_id, bus.paused, bus.state) == (UUID(int=0), False, "connected")
