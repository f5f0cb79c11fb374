"""What a guest asks of its VPs, and which answer is whose."""

from collections.abc import Callable
from threading import Timer
from types import SimpleNamespace
from typing import Any, cast

import pytest

from guest_client.session import Session
from guest_client.vps import LEAVING, OFFLINE, ONLINE, VpOrders
from vmbusd.abi import link
from vmbusd.abi.errors import LinkClosed, RefusedError, TimedOut, UsageError


@pytest.fixture
def posted() -> list[bytes]:
    return []


@pytest.fixture
def orders(posted: list[bytes]) -> VpOrders:
    return VpOrders(posted.append)


def test_an_order_is_a_packet_and_done_when_its_state_is_reached(
    orders: VpOrders, posted: list[bytes]
) -> None:
    """That a worker is asked to leave is no answer; nor is what becomes of another VP."""
    offline = orders.begin(2, online=False)
    assert posted == [link.encode(link.VpOrder(2, 0, 1))]
    orders.take(link.VpChanged(2, LEAVING, 1, b""))
    orders.take(link.VpChanged(1, OFFLINE, 0, b""))
    assert not offline.done()
    orders.take(link.VpChanged(2, OFFLINE, 0, b""))
    assert offline.result(0) is None
    online = orders.begin(2, online=True)
    orders.take(link.VpChanged(2, ONLINE, 2, b""))
    assert online.result(0) is None


def test_a_refusal_answers_the_order_that_it_names(orders: VpOrders) -> None:
    """With the daemon's own words."""
    first, second = orders.begin(0, online=False), orders.begin(0, online=True)
    orders.take(link.VpChanged(0, ONLINE, 1, b"VP 0 is the last that has a worker"))
    with pytest.raises(RefusedError, match="VP 0 is the last"):
        first.result(0)
    assert not second.done()
    orders.take(link.VpChanged(0, ONLINE, 2, b""))
    assert second.result(0) is None


def test_who_is_overtaken_hears_of_it(orders: VpOrders) -> None:
    """An offline that is turned round before it is reached is refused; all who wait for one state have it."""
    first, second = orders.begin(1, online=False), orders.begin(1, online=True)
    orders.take(link.VpChanged(1, LEAVING, 1, b""))
    orders.take(link.VpChanged(1, ONLINE, 2, b""))
    with pytest.raises(RefusedError, match="before it was offline"):
        first.result(0)
    assert second.result(0) is None
    calls = [orders.begin(1, online=False) for _ in range(2)]
    orders.take(link.VpChanged(1, LEAVING, 3, b""))
    orders.take(link.VpChanged(1, LEAVING, 4, b""))
    orders.take(link.VpChanged(1, OFFLINE, 0, b""))
    assert [call.result(0) for call in calls] == [None, None]


def test_what_answers_the_administrator_answers_nobody_here(orders: VpOrders) -> None:
    """Each of the guest's orders waits for its own answer, whatever was done for somebody else before it."""
    online = orders.begin(1, online=True)
    orders.take(link.VpChanged(1, ONLINE, 0, b""))
    assert not online.done()
    orders.take(link.VpChanged(1, ONLINE, 1, b""))
    assert online.result(0) is None
    offline = orders.begin(1, online=False)
    orders.take(link.VpChanged(1, OFFLINE, 0, b""))
    orders.take(link.VpChanged(1, ONLINE, 0, b""))
    assert not offline.done(), "the daemon has yet to read it"
    orders.take(link.VpChanged(1, LEAVING, 2, b""))
    orders.take(link.VpChanged(1, OFFLINE, 0, b""))
    assert offline.result(0) is None
    overtaken = orders.begin(1, online=False)
    orders.take(link.VpChanged(1, LEAVING, 3, b""))
    orders.take(link.VpChanged(1, ONLINE, 0, b""))
    with pytest.raises(RefusedError, match="before it was offline"):
        overtaken.result(0)


def test_an_order_that_is_answered_at_once_is_done(orders: VpOrders) -> None:
    """A VP that is offline already says so in the answer."""
    offline = orders.begin(1, online=False)
    orders.take(link.VpChanged(1, OFFLINE, 1, b""))
    assert offline.result(0) is None


def test_what_nobody_asked_for_is_no_error(orders: VpOrders) -> None:
    """The administrator's orders are told as well."""
    for state in (LEAVING, OFFLINE, ONLINE):
        orders.take(link.VpChanged(1, state, 0, b""))
        assert orders.is_unwanted(1) == (state != ONLINE)
    orders.take(link.VpChanged(1, LEAVING, 9, b"an answer to nobody"))
    assert not orders.is_unwanted(1)


def test_the_end_of_the_link_ends_every_order(orders: VpOrders, posted: list[bytes]) -> None:
    """Those under way, and those that come later, which are not sent."""
    reason = LinkClosed("over")
    call = orders.begin(0, online=True)
    orders.fail(reason)
    for each in (call, orders.begin(0, online=True)):
        with pytest.raises(LinkClosed, match="over"):
            each.result(0)
    assert len(posted) == 1


@pytest.mark.parametrize("vp", [-1, 64, 2**32])
def test_what_is_no_vp_is_said_at_once(orders: VpOrders, posted: list[bytes], vp: int) -> None:
    """Nothing is sent, nobody waits for an answer to it."""
    with pytest.raises(UsageError, match=f"VP {vp}: 0 to 63"):
        orders.begin(vp, online=False)
    orders.fail(LinkClosed("over"))
    assert posted == []


class Asking(Session):
    """A guest of which only the orders are there; its VP never comes."""

    def __init__(self, post: Callable[[bytes], None]) -> None:
        self._vp_orders = VpOrders(post)
        self._connection = cast("Any", SimpleNamespace(lost=None))

    def _vp_state(self, _vp: int) -> int:
        return LEAVING

    def take(self, changed: link.VpChanged) -> None:
        self._vp_orders.take(changed)

    def end(self) -> None:
        self._connection.lost = LinkClosed("over")


def test_who_waited_in_vain_hears_what_for() -> None:
    """TimedOut names the VP, what did not come and the seconds; the end of the link is no timeout."""
    guest = Asking(lambda _: None)
    with pytest.raises(TimedOut, match=r"VP 1: its worker has not left within 0\.01 s; it goes on"):
        guest.vp_offline(1, 0.01)
    with pytest.raises(TimedOut, match=r"VP 2: no answer to the order to have it online within 0\.01 s"):
        guest.vp_online(2, 0.01)


def test_a_vp_whose_link_ends_does_not_come() -> None:
    """Also not for who waits without a timeout."""
    answers: list[Timer] = []

    def post(_packet: bytes) -> None:
        guest.end()
        answers.append(Timer(0.05, guest.take, [link.VpChanged(1, ONLINE, 1, b"")]))
        answers[0].start()

    guest = Asking(post)
    with pytest.raises(LinkClosed, match="over"):
        guest.vp_online(1, None)
    answers[0].join()


def test_a_vp_that_is_wanted_offline_meanwhile_is_not_waited_for() -> None:
    """Whoever ordered it, and also without a timeout: it does not come."""

    def answer() -> None:
        guest.take(link.VpChanged(1, ONLINE, 1, b""))
        guest.take(link.VpChanged(1, LEAVING, 0, b""))

    answering = Timer(0.05, answer)
    guest = Asking(lambda _: answering.start())
    with pytest.raises(RefusedError, match="VP 1 was ordered offline before it had a worker"):
        guest.vp_online(1, None)
    answering.join()
