"""A channel's port: put, decide and signal in one call, and the table of outstanding requests."""

import gc
import mmap
import threading
from typing import Any

import pytest

from tests.unit.abi.world import FILL, World
from vmbusd.abi import layout, native
from vmbusd.abi.errors import ChannelGone, UsageError

FLAG = 5


class Slow:
    """Keeps what was left to it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def send(self, payload: bytes, **options: Any) -> None:
        self.asked.append(("send", payload))

    def send_many(self, _items: list[bytes], sent: int, _timeout: float | None) -> None:
        self.asked.append(("send_many", sent))

    def completed(self, word: int, _payload: bytes) -> None:
        self.asked.append(("completed", word))

    def receive_into(self, _buffer: bytearray, *, timeout: float | None) -> int:
        self.asked.append(("receive_into", None))
        return -1

    def raise_closed(self) -> None:
        raise ChannelGone("closed")


class Side:
    """One port and what it is made of."""

    def __init__(self, out: native.RingView, into: native.RingView, **more: Any) -> None:
        self.slow = Slow()
        self.port = native.Port(
            native.RingWriter(out, announce=True), native.RingReader(into), self.slow, **more
        )


def a_ring() -> native.RingView:
    view = native.RingView(bytearray(2 * layout.PAGE))
    view.format()
    return view


class Channel:
    """A channel with both its sides in this process."""

    def __init__(self, size: int = 4096) -> None:
        self.world = World(vps=1)
        self.world.writer.fill(FLAG, FLAG, **FILL)
        self.world.writer.open(FLAG, FLAG, 1)
        self.world.writer.set_target(FLAG, 0)
        views = [native.RingView(bytearray(layout.PAGE + size)) for _ in range(2)]
        for view in views:
            view.format()
        route = native.Route()
        route.bind(self.world.sender, FLAG, FLAG)
        route.live = True
        self.page = mmap.mmap(-1, layout.PAGE)
        host = native.HostSender(self.page, self.world.bells[0])
        self.host = Side(*views, route=route, requests=native.Requests())
        self.guest = Side(
            *reversed(views),
            host=host,
            flag=FLAG,
            requests=native.Requests(self.world.blocks, FLAG),
            blocks=self.world.blocks,
        )

    def guest_hears(self) -> bool:
        return FLAG in self.world.pages[0].take()

    def host_hears(self) -> bool:
        return FLAG in native.EventFlags(self.page).take()


@pytest.fixture
def channel() -> Channel:
    return Channel()


def test_a_send_signals_when_the_ring_was_empty(channel: Channel) -> None:
    """The first packet of an empty ring signals the other side, the second does not (case 278)."""
    for sender, heard in ((channel.host, channel.guest_hears), (channel.guest, channel.host_hears)):
        assert sender.port.send(b"one") is None
        assert heard()
        assert sender.port.send(b"two") is None
        assert not heard()
        assert not sender.slow.asked


def test_a_read_signals_the_writer_that_waits(channel: Channel) -> None:
    """The read that makes the room asked for signals the writer, once (case 282)."""
    port = channel.host.port
    while port.put(bytes(1000)):
        pass
    assert port.ask(1000)
    channel.host_hears()
    buffer = bytearray(1000)
    heard = []
    for _ in range(3):
        channel.guest.port.receive_into(buffer)
        heard.append(channel.host_hears())
    assert heard.count(True) == 1


def test_what_does_not_fit_is_left_to_the_slow_path(channel: Channel) -> None:
    """A full ring, an empty one and options are for somebody who can wait."""
    port = channel.guest.port
    assert port.send_many([bytes(1000)] * 8) == 8
    assert port.send(bytes(1000)) is None
    assert channel.host.port.receive_into(bytearray(1000)) == 1000
    assert port.send(b"", transaction_id=7) is None
    for _ in range(2):
        channel.host.port.receive_into(bytearray(1000))
    assert channel.host.port.receive_into(bytearray(1000)) == -1
    assert [what for what, _ in channel.guest.slow.asked] == ["send_many", "send", "send"]
    assert channel.host.slow.asked == [("receive_into", None)]


def test_request_ids(channel: Channel) -> None:
    """Ids are 1..256, never 0, unique while outstanding, and used again after completion (case 268)."""
    requests = native.Requests()
    ids = [requests.begin(word) for word in range(256)]
    assert sorted(id for id in ids if id is not None) == list(range(1, 257))
    assert requests.outstanding == 256
    assert requests.end(17) == 16
    assert requests.begin(99) == 17
    assert requests.end(17) == 99


def test_no_request_id_is_left(channel: Channel) -> None:
    """With every id outstanding nothing is written to the ring, and the slow path decides (case 269)."""
    requests = channel.guest.port.requests
    assert requests is not None
    while requests.begin() is not None:
        pass
    before = channel.guest.port.writer.statistics()
    channel.guest.port.send(b"request", request=True)
    assert channel.guest.port.writer.statistics() == before
    assert channel.guest.slow.asked == [("send", b"request")]


@pytest.mark.parametrize("id", [0, 2, 256, 257, 2**63, 2**64 - 1])
def test_completions_of_nothing(channel: Channel, id: int) -> None:
    """A completion that names no outstanding request is dropped and counted (case 270)."""
    requests = channel.guest.port.requests
    assert requests is not None
    assert channel.guest.port.send(b"request", request=True) == 1
    channel.host.port.put(b"answer", 11, 0, id)
    channel.host.port.put(b"answer", 11, 0, 1)
    channel.host.port.put(b"again", 11, 0, 1)
    channel.host.port.put(b"packet")
    got = [channel.guest.port.get() for _ in range(3)]
    assert [packet and (packet[0], packet[2]) for packet in got] == [(11, 1), (6, 0), None]
    assert requests.unknown == 2
    assert requests.outstanding == 0


def test_any_process_can_take_a_completion(channel: Channel) -> None:
    """The table lies in the channel's block: who reads the completion need not be who sent the request."""
    id = channel.guest.port.send(b"request", request=True, word=7)
    assert id is not None
    assert native.Requests(channel.world.blocks, FLAG).end(id) == 7
    assert native.Requests(channel.world.blocks, FLAG + 1).end(id) is None


def test_two_processes_write_one_ring() -> None:
    """Whoever takes the lock goes on where the last one ended (case 272)."""
    channel = Channel()
    view = native.RingView(bytearray(2 * layout.PAGE))
    view.format()
    host = native.HostSender(channel.page, channel.world.bells[0])
    ports = [
        native.Port(
            native.RingWriter(view),
            native.RingReader(view),
            Slow(),
            host=host,
            flag=FLAG,
            blocks=channel.world.blocks,
            owner=vp,
        )
        for vp in range(2)
    ]
    for number in range(40):
        assert ports[number % 3 % 2].put(number.to_bytes(8, "little"))
    reader = native.RingReader(view)
    got = [reader.get() for _ in range(40)]
    assert [packet and int.from_bytes(packet[3], "little") for packet in got] == list(range(40))


def test_a_lock_held_by_another_is_no_room(channel: Channel) -> None:
    """While another process holds the ring's lock nothing is written, and nobody waits natively."""
    lock = memoryview(channel.world.blocks)[FLAG * layout.PAGE + 80 : FLAG * layout.PAGE + 84].cast("I")
    lock[0] = 3
    assert not channel.guest.port.put(b"x")
    lock[0] = 0
    assert channel.guest.port.put(b"x")
    assert lock[0] == 0
    lock.release()


def test_threads_share_a_port(channel: Channel) -> None:
    """Packets of several threads never mix, and every one arrives (case 272)."""
    big = Channel(size=1 << 20)

    def write(letter: bytes) -> None:
        for _ in range(1000):
            assert big.guest.port.put(letter * 64)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = []
    while (packet := big.host.port.get()) is not None:
        assert packet[3] == packet[3][:1] * 64
        seen.append(packet[3][:1])
    assert sorted(seen) == [b"a"] * 1000 + [b"b"] * 1000 + [b"c"] * 1000


def test_a_closed_port_is_silent(channel: Channel) -> None:
    """After the close every verb is left to the slow path or raises, and nobody is signalled."""
    port = channel.host.port
    port.close()
    port.send(b"x")
    port.receive_into(bytearray(8))
    assert [what for what, _ in channel.host.slow.asked] == ["send", "receive_into"]
    assert not port.signal()
    calls: list[Any] = [lambda: port.put(b"x"), port.get, port.rest, lambda: port.ask(8)]
    for call in calls:
        with pytest.raises(ChannelGone):
            call()
    assert not channel.guest_hears()


def test_rings_that_outlive_their_port_keep_the_table() -> None:
    """Both ends look at the table for armed faults, until their port is closed."""
    for closes in (False, True):
        world = World(vps=1)
        ring = a_ring()
        writer, reader = native.RingWriter(ring), native.RingReader(ring)
        host = native.HostSender(mmap.mmap(-1, layout.PAGE), world.bells[0], world.table)
        port = native.Port(writer, reader, Slow(), host=host, flag=FLAG)
        table = world.table
        if closes:
            port.close()
        del port, host, world
        gc.collect()
        if closes:
            table.close()
        else:
            with pytest.raises(BufferError):
                table.close()
        assert writer.put(b"late")
        writer.publish()
        assert reader.get() is not None


def test_wrong_arguments(channel: Channel) -> None:
    """A port signals by exactly one way, and a word of a request has 63 bits."""
    view = native.RingView(bytearray(2 * layout.PAGE))
    with pytest.raises(UsageError, match="route"):
        native.Port(native.RingWriter(view), native.RingReader(view), Slow())
    with pytest.raises(UsageError, match="word"):
        native.Requests().begin(2**63)
    with pytest.raises(UsageError, match="event flag"):
        native.Requests(channel.world.blocks, 2048)
