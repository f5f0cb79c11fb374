"""The native ring and the reference ring run the same random programs, and every byte is compared."""

import mmap
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ring import reference
from tests.ring.reference import HEADER, Full, TooLarge
from vmbusd.abi import native
from vmbusd.abi.errors import ProtocolError, UsageError

SIZES: Final = (4096, 8192, 12288)
GUARD: Final = 4096
"""Bytes before and behind the native ring that nobody may touch."""
FILLER: Final = 0xA5

payloads = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 13000).map(lambda size: bytes(range(256)) * (size // 256) + bytes(size % 256)),
)
headers = {6: st.just(b""), 11: st.just(b""), 7: st.integers(1, 4), 9: st.integers(1, 4)}


@st.composite
def packets(draw: st.DrawFn) -> tuple[bytes, int, int, int, bytes]:
    """payload, type, flags, transaction id, type header."""
    kind = draw(st.sampled_from([6, 6, 6, 11, 7, 9]))
    extra = b""
    if kind in (7, 9):
        words = draw(st.integers(1, 4))
        extra = bytes(4) + words.to_bytes(4, "little") + bytes(range(8)) * words * (1 if kind == 7 else 2)
    return (
        draw(payloads),
        kind,
        draw(st.integers(0, 1)),
        draw(st.integers(0, 2**64 - 1)),
        extra,
    )


steps = st.one_of(
    st.tuples(st.just("stage"), packets()),
    st.tuples(st.just("stage"), packets()),
    st.tuples(st.just("put"), packets()),
    st.tuples(st.just("put_many"), st.lists(payloads, max_size=8)),
    st.tuples(st.just("publish")),
    st.tuples(st.just("revert_writer")),
    st.tuples(st.just("ask"), st.integers(0, 5000)),
    st.tuples(st.just("withdraw")),
    st.tuples(st.just("get"), st.booleans()),
    st.tuples(st.just("get"), st.booleans()),
    st.tuples(st.just("get_into"), st.integers(0, 5000)),
    st.tuples(st.just("get_many"), st.integers(1, 5), st.integers(1, 5000), st.booleans()),
    st.tuples(st.just("commit")),
    st.tuples(st.just("revert_reader")),
    st.tuples(st.just("mask")),
    st.tuples(st.just("rest")),
    st.tuples(st.just("pending"), st.integers(0, 12288)),
    st.tuples(st.just("features"), st.integers(0, 1)),
)
Step = tuple[Any, ...]


class Both:
    """A ring of each kind."""

    def __init__(self, size: int, start: int) -> None:
        self.slow = reference.Ring(size)
        self.slow.store(reference.WRITE_INDEX, start)
        self.slow.store(reference.READ_INDEX, start)
        self.memory = mmap.mmap(-1, GUARD + HEADER + size + GUARD)
        self.memory[:] = bytes([FILLER]) * len(self.memory)
        self.memory[GUARD:-GUARD] = bytes(self.slow.memory)
        view = native.RingView(self.memory, GUARD, size)
        self.writer, self.reader = native.RingWriter(view), native.RingReader(view)
        self.slow_writer, self.slow_reader = reference.Writer(self.slow), reference.Reader(self.slow)

    def compare(self) -> None:
        assert self.memory[GUARD:-GUARD] == self.slow.memory
        assert set(self.memory[:GUARD]) == set(self.memory[-GUARD:]) == {FILLER}

    def poke(self, at: int, value: int) -> None:
        """What the other side of a header field may set at any time."""
        self.slow.store(at, value)
        self.memory[GUARD + at : GUARD + at + 4] = value.to_bytes(4, "little")

    def run(self, step: Step) -> None:
        name, *arguments = step
        getattr(self, name)(*arguments)
        self.compare()

    def _slow_put(self, packet: tuple[bytes, int, int, int, bytes]) -> bool | None:
        payload, kind, flags, number, extra = packet
        try:
            done = self.slow_writer.put(payload, type=kind, flags=flags, transaction_id=number, extra=extra)
        except TooLarge:
            return None
        return not isinstance(done, Full)

    def stage(self, packet: tuple[bytes, int, int, int, bytes]) -> None:
        expected = self._slow_put(packet)
        if expected is None:
            with pytest.raises(UsageError):
                self.writer.stage(*packet)
        else:
            assert self.writer.stage(*packet) == expected

    def put(self, packet: tuple[bytes, int, int, int, bytes]) -> None:
        expected = self._slow_put(packet)
        if expected is None:
            with pytest.raises(UsageError):
                self.writer.put(*packet)
        else:
            assert self.writer.put(*packet) == (self.slow_writer.commit() if expected else None)

    def put_many(self, many: list[bytes]) -> None:
        self.publish()
        before, fitted = self.slow_writer.start, 0
        done: bool | None = True
        while fitted < len(many) and (done := self._slow_put((many[fitted], 6, 0, 0, b""))):
            fitted += 1
        if fitted < len(many) and done is None:
            self.slow_writer.revert()
            with pytest.raises(UsageError):
                self.writer.put_many(many)
            # Bytes that no index covers may have changed.
            assert self.memory[GUARD : GUARD + HEADER] == self.slow.memory[:HEADER]
            self.slow.memory[:] = self.memory[GUARD:-GUARD]
            return
        size = self.slow.used(self.slow_writer.at, before)
        signal = self.slow_writer.commit()
        assert self.writer.put_many(many) == (fitted, signal, size)

    def publish(self) -> None:
        assert self.writer.publish() == self.slow_writer.commit()

    def revert_writer(self) -> None:
        self.writer.revert()
        self.slow_writer.revert()

    def ask(self, payload: int) -> None:
        need = 16 + (payload + 7) // 8 * 8 + 8
        self.publish()
        try:
            expected = self.slow_writer.ask(need)
        except TooLarge:
            with pytest.raises(UsageError):
                self.writer.ask(payload)
        else:
            assert self.writer.ask(payload) == expected

    def withdraw(self) -> None:
        if self.slow.load(reference.PENDING_SEND):
            self.slow_writer.withdraw()
            self.poke(reference.PENDING_SEND, 0)
        self.writer.withdraw()

    def get(self, commit: bool) -> None:
        packet = self.slow_reader.get()
        got = self.reader.get(commit)
        if packet is None:
            assert got is None
        else:
            assert got == (
                packet.type,
                packet.flags,
                packet.transaction_id,
                packet.payload,
                packet.extra,
            )
        if packet is not None and commit:
            self._due(self.slow_reader.commit())

    def _due(self, signal: bool) -> None:
        assert self.reader.due == signal
        self.reader.due = False

    def get_into(self, room: int) -> None:
        at = self.slow_reader.at
        packet = self.slow_reader.get()
        buffer = bytearray(room)
        if packet is None:
            assert self.reader.get_into(buffer) == -1
        elif len(packet.payload) + len(packet.extra) > room:
            self.slow_reader.at = at
            with pytest.raises(UsageError, match=str(len(packet.payload) + len(packet.extra))):
                self.reader.get_into(buffer)
        else:
            assert self.reader.get_into(buffer) == len(packet.payload)
            assert buffer.startswith(packet.payload + packet.extra)
            self._due(self.slow_reader.commit())

    def get_many(self, limit: int, most: int, commit: bool) -> None:
        expected: list[tuple[int, int, int, bytes, bytes]] = []
        at = 0
        while len(expected) < limit:
            before = self.slow_reader.at
            packet = self.slow_reader.get()
            if packet is None:
                break
            end = at + 16 + len(packet.extra) + len(packet.payload)
            if expected and end > most:
                self.slow_reader.at = before
                break
            at = end + 8
            expected.append((packet.type, packet.flags, packet.transaction_id, packet.payload, packet.extra))
        batch = self.reader.get_many(limit, most, commit)
        assert ([] if batch is None else [batch[i] for i in range(len(batch))]) == expected
        if expected and commit:
            self._due(self.slow_reader.commit())

    def commit(self) -> None:
        assert self.reader.commit() == self.slow_reader.commit()

    def revert_reader(self) -> None:
        self.reader.revert()
        self.slow_reader.revert()

    def mask(self) -> None:
        self.reader.mask()
        self.slow_reader.mask()

    def rest(self) -> None:
        wait, signal = self.slow_reader.rest()
        assert self.reader.rest() == wait
        self._due(signal)

    def pending(self, value: int) -> None:
        self.poke(reference.PENDING_SEND, value)

    def features(self, value: int) -> None:
        self.poke(reference.FEATURES, value)


@settings(max_examples=1500, deadline=None)
@given(size=st.sampled_from(SIZES), start=st.integers(0, 511), program=st.lists(steps, max_size=40))
def test_every_byte_and_every_decision_is_the_reference_s(size: int, start: int, program: list[Step]) -> None:
    """Whatever the two ends do, bytes, answers and signals are the plain ring's (case 243, case 249)."""
    both = Both(size, start * 8)
    for step in program:
        both.run(step)


scribbles = st.one_of(
    st.tuples(st.integers(0, HEADER // 64), st.integers(0, 2**32 - 1)),
    st.tuples(st.sampled_from([0, 4, 8, 12, 64]), st.sampled_from([0, 1, 7, 4088, 4096, 2**31, 2**32 - 1])),
    st.tuples(
        st.integers(HEADER // 4, (HEADER + 4096) // 4 - 1).map(lambda at: at * 4), st.integers(0, 2**32 - 1)
    ),
)


@settings(max_examples=1000, deadline=None)
@given(
    start=st.integers(0, 511),
    program=st.lists(st.one_of(steps, st.tuples(st.just("scribble"), scribbles)), max_size=30),
)
def test_a_peer_that_scribbles_ends_the_ring_and_nothing_else(start: int, program: list[Step]) -> None:
    """Any word changed at any time is used soundly or kills the ring with a reason (case 258, case 264)."""
    both = Both(4096, start * 8)
    found: list[tuple[str, str]] = []
    for name, *arguments in program:
        if name == "scribble":
            ((at, value),) = arguments
            both.memory[GUARD + at : GUARD + at + 4] = value.to_bytes(4, "little")
            continue
        try:
            both_sides_native(both, name, arguments)
        except ProtocolError as error:
            found.append(("writer" if name in WRITERS else "reader", str(error)))
        except UsageError:
            pass
        assert set(both.memory[:GUARD]) == set(both.memory[-GUARD:]) == {FILLER}
    for end, text in found:
        assert getattr(both, end).reason in text
    assert len(set(found)) <= len({end for end, _ in found}), "the first reason is the reason"


WRITERS: Final = {"stage", "put", "put_many", "publish", "revert_writer", "ask", "withdraw"}


def both_sides_native(both: Both, name: str, arguments: list[Any]) -> None:
    """One step on the native ring alone."""
    writer, reader = both.writer, both.reader
    calls: dict[str, Any] = {
        "stage": lambda packet: writer.stage(*packet),
        "put": lambda packet: writer.put(*packet),
        "put_many": writer.put_many,
        "publish": writer.publish,
        "revert_writer": writer.revert,
        "ask": writer.ask,
        "withdraw": writer.withdraw,
        "get": reader.get,
        "get_into": lambda room: reader.get_into(bytearray(room)),
        "get_many": reader.get_many,
        "commit": reader.commit,
        "revert_reader": reader.revert,
        "mask": reader.mask,
        "rest": reader.rest,
        "pending": lambda value: both.poke(reference.PENDING_SEND, value),
        "features": lambda value: both.poke(reference.FEATURES, value),
    }
    calls[name](*arguments)
