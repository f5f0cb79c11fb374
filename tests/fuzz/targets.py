"""What is fuzzed: a function per target with its invariant, that any input decodes or is refused by meaning.

A target gets bytes and returns, or raises what is then a finding. None needs a fuzzer: `test_corpus` runs the
inputs of the tree through them in every test run.
"""

import mmap
import struct
from collections.abc import Callable
from typing import Final

import msgspec

from tests.fuzz.draw import Draw
from tests.fuzz.mutate import changed
from tests.fuzz.world import RAM_PAGES, VERSIONS, VPS, World
from vmbusd.abi import (
    dev_ic,
    dev_ic_bodies,
    dev_nvsp,
    dev_pipe,
    dev_rndis,
    dev_vstor,
    device_link,
    gpadl,
    link,
    native,
    packets,
    synic,
    wire,
)
from vmbusd.abi.dev_ic import IcHeader
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.layout import PAGE
from vmbusd.bus import saved
from vmbusd.bus.bus import Bus
from vmbusd.bus.saved import SavedError

ALL_FEATURES: Final = 0xFF
SAVED_AFTER: Final = 64
"""Steps of a bus before it is saved, fewer than this."""
RING_HEAD: Final = 9
"""Two indices and the number of steps."""


def wire_messages(data: bytes) -> None:
    """Any bytes are a channel message or a WireError, and a message is the same after another round."""
    draw = Draw(data)
    version, features = draw.choice(VERSIONS), draw.byte()
    sender = draw.choice(tuple(wire.Sender))
    raw = draw.rest()
    try:
        message = wire.decode(raw, version, features, sender=sender)
    except wire.WireError:
        return
    encoded = wire.encode(message)
    assert len(encoded) <= wire.MAX_MESSAGE
    assert wire.decode(encoded, version, features, sender=sender) == message
    wire.check_size(encoded)


def gpadl_ranges(data: bytes) -> None:
    """Any buffer is a list of ranges or a ProtocolError, and ranges are the same after another round."""
    draw = Draw(data)
    count, downstream, buffer = draw.byte(), draw.byte(), draw.rest()[: gpadl.MAX_BUFFER]
    try:
        ranges = gpadl.decode_ranges(buffer, count)
    except ProtocolError:
        return
    assert len(ranges) == count
    encoded = gpadl.encode_ranges(ranges)
    assert buffer.startswith(encoded)
    parts = gpadl.split(1, 2, ranges)
    assembly = gpadl.Assembly(parts[0])  # type: ignore[arg-type]
    for part in parts[1:]:
        assembly.add(part.ranges)
    assert gpadl.decode_ranges(assembly.buffer(), assembly.range_count) == ranges
    try:
        rings = gpadl.ring_pages(ranges, downstream)
    except ProtocolError:
        return
    assert rings.guest_to_host + rings.host_to_guest == ranges[0].pfns


def _nvsp(data: bytes) -> None:
    message = dev_nvsp.decode(data)
    assert dev_nvsp.decode(dev_nvsp.encode(message)) == message or hasattr(message, "rest")
    if isinstance(message, dev_nvsp.SendIndirectionTable):
        message.table()


def _rndis(data: bytes) -> None:
    message = dev_rndis.decode(data)
    assert dev_rndis.decode(dev_rndis.encode(message)) == message
    if isinstance(message, dev_rndis.Packet):
        dev_rndis.frame(message)


def _ic(data: bytes) -> None:
    header, body = dev_ic.decode(data)
    if header.icmsgtype == dev_ic.IcType.NEGOTIATE:
        dev_ic.decode_answer(body)
        dev_ic.decode_negotiate(body)
        dev_ic.answer_negotiation(data, ((3, 0), (1, 0)), ((4, 0), (3, 0)))
        return
    decoded = dev_ic_bodies.decode(header, body)
    for value in msgspec.structs.astuple(decoded):
        if isinstance(value, bytes):
            dev_ic_bodies.text_of(value)
    encoded = dev_ic_bodies.encode(decoded)
    again: IcHeader = msgspec.structs.replace(header, icmsgsize=len(encoded))
    assert dev_ic_bodies.decode(again, encoded) == decoded


def _vstor(data: bytes) -> None:
    packet = dev_vstor.decode(data[1:], data[0] % 16 if data else None)
    assert dev_vstor.encode(packet, len(data) - 1)


def _ring_packet(data: bytes) -> None:
    packet, taken = packets.decode(data, packets.ALL)
    assert taken == packets.size_on_ring(packet)
    assert packets.encode(packet, 0)[: taken - packets.TRAILER_SIZE] == data[: taken - packets.TRAILER_SIZE]
    if packet.type == packets.PacketType.GPA_DIRECT:
        ranges = packets.decode_gpa_direct(packet.extra)
        assert packets.decode_gpa_direct(packets.encode_gpa_direct(ranges)) == ranges
    elif packet.type == packets.PacketType.TRANSFER_PAGES:
        pages = packets.decode_transfer_pages(packet.extra)
        assert packets.decode_transfer_pages(packets.encode_transfer_pages(pages)) == pages


def _pipe(data: bytes) -> None:
    packet = dev_pipe.decode(data)
    assert data.startswith(dev_pipe.encode(packet))
    dev_pipe.unread(packet)


def _synic(data: bytes) -> None:
    synic.encode_slot(synic.decode_slot(data.ljust(synic.SLOT_SIZE, b"\0")))
    synic.encode_post(synic.decode_post(data))
    synic.encode_signal(synic.decode_signal(data))


def _link(data: bytes) -> None:
    header = link.decode_header(data)
    if header.kind in link.BODIES:
        body = link.decode_body(header, data)
        if isinstance(body, link.Welcome | link.HostLink):
            link.decode_grants(body.grants)
    else:
        message = device_link.decode(header, data)
        assert device_link.decode(header, device_link.encode(message)) == message


DECODERS: Final = (_nvsp, _rndis, _ic, _vstor, _ring_packet, _pipe, _synic, _link)


def decoders(data: bytes) -> None:
    """Any bytes, in any decoder of devices, rings, SynIC pages and links, decode or are a ProtocolError."""
    draw = Draw(data)
    decode = draw.choice(DECODERS)
    try:
        decode(draw.rest())
    except ProtocolError:
        return


def bus(data: bytes) -> None:
    """Any order of anything: the bus never raises, says no more than it must, and serves the next guest."""
    draw = Draw(data)
    world = World(draw)
    while draw.more:
        world.step(draw)
    world.settle()
    world.serve_a_good_guest()


def saved_states(data: bytes) -> None:
    """Any change of a saved bus is refused, or makes a bus as good as any: it never raises, and it comes to
    rest; a change of the bytes alone is always refused."""
    draw = Draw(data)
    world = World(draw)
    for _ in range(draw.byte() % SAVED_AFTER):
        world.step(draw)
    before = saved.encode(world.bus.save())
    torn = bytearray(before)
    torn[int.from_bytes(draw.take(2), "little") % len(torn)] ^= 1 << draw.byte() % 8
    for wrong in (bytes(torn), before[: draw.byte() * len(before) // 256]):
        try:
            saved.decode(wrong)
        except SavedError:
            continue
        raise AssertionError("bytes that nobody wrote were read")
    try:
        state = saved.decode(changed(saved.decode(before), draw))
        bus = Bus.restore(state, vps=VPS, ram_pages=RAM_PAGES, options=world.options)
    except SavedError:
        return
    world.adopt(bus, state)
    while draw.more:
        world.step(draw)
    world.settle()
    world.serve_a_good_guest()


Target = Callable[[bytes], None]


def ring(data: bytes) -> None:
    """Any ring is read, or dead with a reason and read no more, whatever a peer changes between the steps.

    The input: write_index and read_index (u32 each), the number of steps, steps of four bytes, and the data
    area from read_index on. tests/fuzz/ring.c reads the same.
    """
    if len(data) < RING_HEAD or len(data) < RING_HEAD + 4 * data[8]:
        return
    steps, filling = data[RING_HEAD : RING_HEAD + 4 * data[8]], data[RING_HEAD + 4 * data[8] :][:PAGE]
    write_index, read_index = struct.unpack_from("<II", data)
    memory = mmap.mmap(-1, 2 * PAGE)
    view = native.RingView(memory)
    view.format()
    area = memoryview(memory)[PAGE:]
    begin = read_index % PAGE
    area[begin:] = filling[: PAGE - begin].ljust(PAGE - begin, b"\0")
    area[: len(filling[PAGE - begin :])] = filling[PAGE - begin :]
    struct.pack_into("<II", memory, 0, write_index, read_index)
    try:
        reader = native.RingReader(view)
        for at in range(0, len(steps), 4):
            _ring_step(
                reader,
                memory,
                area,
                steps[at],
                int.from_bytes(steps[at + 1 : at + 3], "little"),
                steps[at + 3],
            )
    except ProtocolError:
        return


def _ring_step(
    reader: native.RingReader, memory: mmap.mmap, area: memoryview, kind: int, number: int, more: int
) -> None:
    kind %= 8
    if kind == 0:
        try:
            assert reader.get_into(bytearray(number % PAGE)) <= number % PAGE
        except UsageError:
            packet = reader.get()
            assert packet is not None
            assert len(packet[3]) + len(packet[4]) > number % PAGE
    elif kind == 1:
        batch = reader.get_many(more % 9, number % (2 * PAGE), commit=False)
        if batch is not None:
            reader.revert()
            for i in range(len(batch)):
                assert reader.get(commit=False) == batch[i]
    elif kind == 2:
        reader.commit()
        try:
            lease = reader.lease_many(more % 9, number % (2 * PAGE))
        except UsageError:
            return
        if lease is not None:
            spans, size = list(lease.spans), len(memoryview(lease))
            assert all(a <= b <= size for a, b in zip(spans[::2], spans[1::2], strict=True))
            lease.release()
    elif kind == 3:
        reader.commit()
    elif kind == 4:
        reader.revert()
    elif kind == 5:
        reader.rest()
    elif kind == 6:
        area[number % (PAGE // 8) * 8 :][:8] = bytes([more]) * 8
    else:
        struct.pack_into("<I", memory, 0, number if more & 1 else number % (PAGE // 8) * 8)


TARGETS: Final[dict[str, Target]] = {
    "wire": wire_messages,
    "gpadl": gpadl_ranges,
    "decoders": decoders,
    "bus": bus,
    "saved": saved_states,
    "ring": ring,
}
