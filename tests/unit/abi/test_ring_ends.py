"""The end of a channel as its verbs tell it, and wake-ups that were missed."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.unit.abi.ring_world import Pair, Side
from vmbusd.abi import layout, native
from vmbusd.abi.errors import ChannelGone, RingDead, RingFull, UsageError
from vmbusd.abi.packets import Packet
from vmbusd.abi.rings import map_rings

PATIENCE = 10.0


@pytest.fixture
def pair() -> Pair:
    return Pair()


VERBS: list[Callable[[Side], Any]] = [
    lambda side: side.send(b""),
    lambda side: side.send(b"", request=True, timeout=0),
    lambda side: side.send_many([b""]),
    lambda side: side.complete(1),
    lambda side: side.request(b""),
    lambda side: side.request_future(b""),
    lambda side: side.receive(),
    lambda side: side.receive_many(),
    lambda side: side.receive_into(bytearray(8)),
    lambda side: side.receive_views(),
    lambda side: side.pipe().read(1),
    lambda side: side.pipe().write(b"x"),
    lambda side: side.pipe().receive(),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("bound", [True, False])
def test_every_verb_says_why_it_is_over(pair: Pair, verb: Callable[[Side], Any], bound: bool) -> None:
    """After the close every verb raises ChannelGone with the reason, whoever kept the native one."""
    pair.guest.both.close("relid 5: rescinded")
    if not bound:
        pair.guest.unbind_rings()
    with pytest.raises(ChannelGone, match="relid 5: rescinded"):
        verb(pair.guest)


@pytest.mark.parametrize(
    "wait",
    [
        lambda side: side.receive(),
        lambda side: side.receive_into(bytearray(8)),
        lambda side: side.request(b"?", timeout=None),
        lambda side: side.request_future(b"?").result(),
        lambda side: side.pipe().read(1),
        lambda side: side.send_many([bytes(1000)] * 8, timeout=None),
    ],
)
def test_a_close_ends_every_wait(pair: Pair, wait: Callable[[Side], Any]) -> None:
    """Whoever waits when the channel goes away hears so at once (case 277)."""
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(wait, pair.guest)
        time.sleep(0.05)
        assert not waiting.done()
        pair.guest.both.close("relid 5: rescinded")
        with pytest.raises(ChannelGone, match="rescinded"):
            waiting.result(PATIENCE)


def test_a_lease_outlives_the_close(pair: Pair) -> None:
    """Memory stays mapped while somebody looks at it; the release afterwards raises nothing."""
    pair.host.send(b"12345678")
    lease = pair.guest.receive_views()
    assert lease is not None
    pair.guest.both.close("gone")
    seen = memoryview(lease)
    assert bytes(seen[-8:]) == b"12345678"
    seen.release()
    lease.release()
    assert not pair.host_heard()


def test_a_broken_ring_is_the_end(pair: Pair) -> None:
    """A peer that scribbles on an index ends this channel, naming field and value, for every verb."""
    view = pair.host.both._views[0]
    assert isinstance(view, native.RingView)
    pair.host.send(b"x")
    pair.memory[1][0:4] = (12345).to_bytes(4, "little")
    for verb in (lambda: pair.guest.receive(0), lambda: pair.guest.receive_into(bytearray(8))):
        with pytest.raises(RingDead, match="write_index is 0x3039") as error:
            verb()
        assert isinstance(error.value, ChannelGone)


def test_a_peer_that_signals_no_room_is_polled() -> None:
    """Without feature bit 0 of the peer a full ring is looked at again, not slept on."""
    pair = Pair()
    pair.memory[1][64] = 0
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(pair.guest.send_many, [bytes(1000)] * 8, timeout=PATIENCE)
        got: list[Packet] = []
        deadline = time.monotonic() + PATIENCE
        while len(got) < 8 and time.monotonic() < deadline:
            got += pair.host.receive_many()
        assert sending.result(PATIENCE) == 8


# -- who was not woken ---------------------------------------------------------------------------------------


def test_unstick_wakes_who_sleeps_on_something(pair: Pair) -> None:
    """A reader behind a clear mask, a writer whose room is there, and nobody else (case 296)."""
    pair.host.send(b"x")
    pair.guest_heard()
    assert pair.host.both.unstick()
    assert pair.guest_heard()
    pair.guest.both.port.mask()
    assert not pair.host.both.unstick()
    assert not pair.guest_heard()
    assert pair.host.both.unstick(force=True)
    assert pair.guest_heard()
    assert pair.host.both.signals == 1


def test_unstick_gives_room_to_a_writer(pair: Pair) -> None:
    """The reader's side signals a writer that waits though its room is there (case 296)."""
    with pytest.raises(RingFull):
        pair.guest.send_many([bytes(1000)] * 9, timeout=0)
    assert pair.guest.both.port.ask(3000)
    reader = native.RingReader(native.RingView(pair.memory[0]))
    while reader.get() is not None:
        reader.due = False
    assert not pair.guest_heard()
    assert pair.host.both.unstick()
    assert pair.guest_heard()


def test_who_gets_callbacks_does_not_receive(pair: Pair) -> None:
    """Packets that go to callbacks are not for receive; the error says so."""
    pair.guest.both.delivered = True
    pair.guest.unbind_rings()
    pair.guest.bind_rings(pair.guest.both)
    for verb in (pair.guest.receive, pair.guest.receive_many, pair.guest.receive_views):
        with pytest.raises(UsageError, match="on_packets"):
            verb()
    with pytest.raises(UsageError, match="on_packets"):
        pair.guest.receive_into(bytearray(8))


def test_the_ring_pages_must_be_rings(tmp_path: Any) -> None:
    """A ring of one page, or outside of memory, is refused, and nothing stays mapped."""
    memory = tmp_path / "ram"
    memory.write_bytes(bytes(8 * layout.PAGE))
    with memory.open("r+b") as file:
        up, down = map_rings(file.fileno(), [0, 1, 2, 3], 2, "relid 1")
        assert (up.size, down.size) == (layout.PAGE, layout.PAGE)
        up.release()
        down.release()
        for pages, downstream in (([0, 1, 2], 2), ([0, 1, 2, 8], 2), ([8, 1, 2, 3], 2)):
            with pytest.raises(UsageError, match="relid 1"):
                map_rings(file.fileno(), pages, downstream, "relid 1")


def test_an_idle_wait_costs_no_more_than_its_time(pair: Pair) -> None:
    """receive returns None when its time is over, and a signal without a packet does not end it early."""
    begun = time.monotonic()
    threading.Timer(0.02, pair.guest.both.signalled).start()
    assert pair.guest.receive(0.1) is None
    assert time.monotonic() - begun >= 0.1
