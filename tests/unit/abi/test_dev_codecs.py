"""Device codecs: what is encoded is decoded again, and any bytes decode or raise ProtocolError."""

import contextlib
import struct
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmbusd.abi import dev_ic, dev_ic_bodies, dev_nvsp, dev_pipe, dev_rndis, dev_vstor, packets, synic
from vmbusd.abi.dev_ic import IcHeader, IcType
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.gpadl import Range, pages_spanned
from vmbusd.abi.packing import Packing

VERSIONS = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))


def structures(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any value of a packed class."""
    packing = Packing(cls)
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for name, kind, width in zip(packing.names, packing.kinds, packing.widths, strict=True):
        if kind is int:
            assert width is not None
            parts[name] = st.integers(0, (1 << 8 * width) - 1)
        elif kind is UUID:
            parts[name] = st.uuids()
        elif width is None:
            parts[name] = st.binary(max_size=64)
        else:
            parts[name] = st.builds(
                bytes.ljust, st.binary(max_size=min(width, 32)), st.just(width), st.just(b"\0")
            )
    return st.builds(cls, **parts)


def ic_header(kind: int, size: int, **more: int) -> IcHeader:
    values = dict.fromkeys(IcHeader.__struct_fields__, 0) | {"icmsgtype": kind, "icmsgsize": size, **more}
    return IcHeader(**values)


@pytest.mark.parametrize("row", dev_ic_bodies.BODIES, ids=lambda row: row.name)
@given(data=st.data())
def test_a_component_body_goes_both_ways(row: dev_ic_bodies.Row, data: st.DataObject) -> None:
    """Every layout, with the operation that names it."""
    body = data.draw(structures(row.cls))
    if hasattr(body, "operation"):
        operations = [number for number in range(8) if _finds(row, number)]
        body = msgspec.structs.replace(body, operation=data.draw(st.sampled_from(operations)))
    version = 3 if row.cls is dev_ic_bodies.Timesync else 4
    payload = dev_ic_bodies.encode(body)

    header, raw = dev_ic.decode(
        dev_ic.encode(ic_header(row.kind, len(payload), icvermsg_major=version), payload)
    )

    assert len(payload) == row.size
    assert dev_ic_bodies.decode(header, raw) == body
    with pytest.raises(ProtocolError):
        dev_ic_bodies.decode(ic_header(row.kind, row.least - 1, icvermsg_major=version), raw)


def _finds(row: dev_ic_bodies.Row, operation: int) -> bool:
    body = struct.pack("<I", operation).ljust(row.size, b"\0")
    try:
        found = dev_ic_bodies.decode(ic_header(row.kind, row.size), body)
    except ProtocolError:
        return False
    return isinstance(found, row.cls)


def test_a_body_may_be_longer_and_a_heartbeat_shorter() -> None:
    """Other hosts send 16 bytes of heartbeat and 28 of time; guests need 8 and 25."""
    beat = dev_ic_bodies.Heartbeat(7, 1)
    time = dev_ic_bodies.Timesync(1, 2, 3, 1)

    assert dev_ic_bodies.encode(beat, 16).hex() == "07000000000000000100000000000000"
    assert dev_ic_bodies.decode(ic_header(IcType.HEARTBEAT, 16), dev_ic_bodies.encode(beat, 16)) == beat
    assert dev_ic_bodies.decode(ic_header(IcType.HEARTBEAT, 8), bytes(8)) == dev_ic_bodies.Heartbeat(0)
    assert dev_ic_bodies.decode(ic_header(IcType.TIMESYNC, 28), dev_ic_bodies.encode(time, 28)) == time
    with pytest.raises(UsageError):
        dev_ic_bodies.encode(time, 24)
    with pytest.raises(UsageError):
        dev_ic_bodies.encode(beat, 8)


@given(
    st.lists(VERSIONS, max_size=5), st.lists(VERSIONS, max_size=5), st.lists(VERSIONS, min_size=1, max_size=3)
)
def test_a_negotiation_goes_both_ways_and_is_answered(
    frameworks: list[dev_ic.Version], known: list[dev_ic.Version], own: list[dev_ic.Version]
) -> None:
    """The guest answers in the same buffer; it agrees when both lists have a common version."""
    offer = dev_ic.Negotiate(tuple(frameworks), tuple(known))
    body = dev_ic.encode_negotiate(offer)
    request = dev_ic.request(IcType.NEGOTIATE, body, framework=(0, 0), message=(0, 0), transaction=9)

    assert dev_ic.decode_negotiate(body) == offer
    if len(body) < dev_ic.ANSWER_SIZE:
        with pytest.raises(ProtocolError):
            dev_ic.answer_negotiation(request, own, own)
        return
    payload = dev_ic.answer_negotiation(request, own, own)
    header, answered = dev_ic.decode(payload)

    assert len(payload) == len(request)
    assert (header.icflags, header.icmsgsize, header.ictransaction_id) == (dev_ic.RESPONSE, 16, 9)
    agreed = bool(set(own) & set(frameworks)) and bool(set(own) & set(known))
    assert dev_ic.decode_answer(answered).agreed == agreed


@pytest.mark.parametrize("cls", dev_nvsp.MESSAGES.values(), ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_an_nvsp_message_goes_both_ways(cls: type[dev_nvsp.Message], data: st.DataObject) -> None:
    """In a union of 40 bytes, of 28, and bare."""
    message = data.draw(structures(cls))

    assert dev_nvsp.decode(dev_nvsp.encode(message, 0)) == message
    if cls is not dev_nvsp.SendIndirectionTable:
        for size in (dev_nvsp.MESSAGE_SIZE, dev_nvsp.OLD_MESSAGE_SIZE):
            assert len(dev_nvsp.encode(message, size)) == size
            assert dev_nvsp.decode(dev_nvsp.encode(message, size)) == message


def test_a_send_table_outside_its_message_is_refused() -> None:
    """Its offset and count are the peer's numbers."""
    table = tuple(range(16))
    message = dev_nvsp.decode(dev_nvsp.encode(dev_nvsp.send_indirection_table(table)))
    assert isinstance(message, dev_nvsp.SendIndirectionTable)
    assert message.table() == table
    for change in ({"count": 17}, {"offset": 0}, {"offset": 16}, {"offset": 0xFFFFFFFF}):
        with pytest.raises(ProtocolError):
            msgspec.structs.replace(message, **change).table()


@pytest.mark.parametrize("cls", dev_rndis.MESSAGES.values(), ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_an_rndis_message_goes_both_ways(cls: type[dev_rndis.Message], data: st.DataObject) -> None:
    """Also with another message behind it."""
    message = data.draw(structures(cls))
    encoded = dev_rndis.encode(message)

    assert dev_rndis.decode(encoded + b"\1\0\0\0more") == message
    assert dev_rndis.length(encoded + b"more") == len(encoded)
    with pytest.raises(ProtocolError):
        dev_rndis.decode(encoded[:-1])


def test_what_an_rndis_message_names_must_be_in_it() -> None:
    """Offsets count from byte 8; one that leaves the message is refused."""
    packet = dev_rndis.Packet(36, 4, 0, 0, 0, 0, 0, 0, 0, b"abcd")

    assert dev_rndis.frame(packet) == b"abcd"
    for offset, size in ((35, 4), (37, 4), (36, 5), (0xFFFFFFFF, 1)):
        with pytest.raises(ProtocolError):
            dev_rndis.inside(packet, offset, size)
    assert dev_rndis.inside(packet, 0, 0) == b""


@given(
    operation=st.sampled_from(list(dev_vstor.Operation)), status=st.integers(0, 0xFFFFFFFF), data=st.data()
)
def test_a_vstor_packet_goes_both_ways(
    operation: dev_vstor.Operation, status: int, data: st.DataObject
) -> None:
    """Requests say what they carry, answers are read by what they answer; 64 bytes and 48."""
    body = data.draw(structures(dev_vstor.REQUESTS.get(operation, dev_vstor.Nothing)))
    packet = dev_vstor.VstorPacket(operation, 1, status, body)
    old = data.draw(structures(dev_vstor.OldSrb))
    completion = dev_vstor.VstorPacket(dev_vstor.Operation.COMPLETE_IO, 0, status, old)

    assert dev_vstor.decode(dev_vstor.encode(packet)) == packet
    raw = dev_vstor.encode(completion, dev_vstor.OLD_PACKET_SIZE)
    assert dev_vstor.decode(raw, dev_vstor.Operation.EXECUTE_SRB) == completion
    with pytest.raises(ProtocolError):
        dev_vstor.decode(raw[:-1])
    with pytest.raises(UsageError):
        dev_vstor.encode(completion, 50)


@given(st.binary(max_size=300), st.binary(max_size=7))
def test_a_pipe_packet_goes_both_ways(data: bytes, padding: bytes) -> None:
    """The ring's padding is not part of the data; a partly read packet says how much is left."""
    packet = dev_pipe.data_packet(data)
    partial = dev_pipe.PipePacket(dev_pipe.PipeType.PARTIAL, len(data) // 2 << 16 | len(data), data)

    assert dev_pipe.decode(dev_pipe.encode(packet) + padding) == packet
    assert dev_pipe.unread(dev_pipe.decode(dev_pipe.encode(partial))) == data[len(data) // 2 :]
    with pytest.raises(ProtocolError):
        dev_pipe.decode(struct.pack("<II", 1, len(data) + 1) + data)


@given(
    kind=st.sampled_from([6, 11]),
    flags=st.integers(0, 1),
    transaction=st.integers(0, (1 << 64) - 1),
    payload=st.binary(max_size=100),
    start=st.integers(0, 1 << 20),
    more=st.binary(max_size=9),
)
def test_a_ring_packet_goes_both_ways(
    kind: int, flags: int, transaction: int, payload: bytes, start: int, more: bytes
) -> None:
    """Descriptor, payload padded to 8, trailer with the start (cases 244, 313)."""
    packet = packets.Packet(kind, flags, transaction, payload)
    encoded = packets.encode(packet, start)

    decoded, taken = packets.decode(encoded + more)

    assert taken == len(encoded) == packets.size_on_ring(packet)
    assert encoded[-8:] == struct.pack("<II", 0, start)
    assert decoded.payload.rstrip(b"\0") == payload.rstrip(b"\0")
    assert (decoded.type, decoded.flags, decoded.transaction_id) == (kind, flags, transaction)
    with pytest.raises(ProtocolError):
        packets.decode(encoded[:-1])


@given(st.lists(st.tuples(st.integers(1, 20000), st.integers(0, 4095)), min_size=1, max_size=4))
def test_gpa_ranges_go_both_ways(sizes: list[tuple[int, int]]) -> None:
    """Every range has exactly the pages it touches; cut short it is refused."""
    ranges = [Range(size, offset, tuple(range(pages_spanned(size, offset)))) for size, offset in sizes]
    extra = packets.encode_gpa_direct(ranges)

    assert packets.decode_gpa_direct(extra) == ranges
    with pytest.raises(ProtocolError):
        packets.decode_gpa_direct(extra[:-8])
    with pytest.raises(UsageError):
        packets.encode_gpa_direct([msgspec.structs.replace(ranges[0], pfns=())])


@given(st.binary(max_size=400), st.integers(0, 15))
def test_any_bytes_decode_or_are_refused(data: bytes, kind: int) -> None:
    """Nothing but ProtocolError comes out of a decoder (case 314)."""
    numbered = struct.pack("<I", kind) + data
    header = ic_header(kind, len(data), icvermsg_major=data[0] if data else 0)
    for decode in (
        lambda: dev_pipe.decode(data),
        lambda: dev_pipe.decode(numbered),
        lambda: dev_ic.decode(data),
        lambda: dev_ic.answer_negotiation(data, ((3, 0),), ((3, 0),)),
        lambda: dev_ic_bodies.decode(header, data),
        lambda: dev_nvsp.decode(numbered),
        lambda: dev_rndis.decode(numbered),
        lambda: dev_vstor.decode(data.ljust(64, b"\0")[:64], kind),
        lambda: packets.decode(numbered, packets.ALL),
        lambda: packets.decode_gpa_direct(data),
        lambda: packets.decode_transfer_pages(data),
        lambda: synic.decode_slot(data.ljust(256, b"\0")),
        lambda: synic.decode_post(data),
        lambda: synic.decode_signal(data),
    ):
        with contextlib.suppress(ProtocolError):
            decode()


@pytest.mark.parametrize("text", ["", "x", "Größe", "\U0001f600"])
def test_text_is_utf16_with_a_nul(text: str) -> None:
    """What follows the NUL in a field does not count."""
    assert dev_ic_bodies.text_of(dev_ic_bodies.utf16(text) + b"\0\0\1\1") == text


def test_half_a_surrogate_pair_is_no_text() -> None:
    """Names come from the other side."""
    with pytest.raises(ProtocolError):
        dev_ic_bodies.text_of(b"\x00\xd8")


@pytest.mark.parametrize(
    ("monitor", "dedicated", "low_latency", "page", "trigger", "call"),
    [
        (None, True, False, 0, 0, 1),
        (None, False, False, 1, 0, 1),
        (40, True, False, 1, 1, 0),
        (40, False, True, 1, 0, 1),
    ],
)
def test_a_guest_signals_by_monitor_bit_or_by_call(
    monitor: int | None, dedicated: bool, low_latency: bool, page: int, trigger: int, call: int
) -> None:
    """A monitored channel needs no call unless it wants low latency; a shared one has its bit in the page."""
    signal = synic.guest_signal(9, 2, dedicated=dedicated, monitor=monitor, low_latency=low_latency)

    assert len(signal.interrupt_page) == page
    assert len(signal.monitor_page) == trigger
    assert (signal.call is not None) == call


def test_flags_and_channels_there_are_not_are_refused() -> None:
    """2048 flags of 16 SINTs, 2047 channels, 128 monitor ids."""
    for sint, flag in ((2, 2048), (16, 0), (-1, 0), (2, -1)):
        with pytest.raises(UsageError):
            synic.flag_position(sint, flag)
    for relid, monitor in ((0, None), (2048, None), (1, 128)):
        with pytest.raises(UsageError):
            synic.guest_signal(relid, 1, dedicated=True, monitor=monitor)
