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
    assert posted == [link.encode(link.VpOrder(2, 0))]
    orders.take(link.VpChanged(2, LEAVING, b""))
    orders.take(link.VpChanged(1, OFFLINE, b""))
    assert not offline.done()
    orders.take(link.VpChanged(2, OFFLINE, b""))
    assert offline.result(0) is None
    online = orders.begin(2, online=True)
    orders.take(link.VpChanged(2, ONLINE, b""))
    assert online.result(0) is None


def test_a_refusal_answers_the_oldest_order(orders: VpOrders) -> None:
    """With the daemon's own words."""
    first, second = orders.begin(0, online=False), orders.begin(0, online=True)
    orders.take(link.VpChanged(0, ONLINE, b"VP 0 is the last that has a worker"))
    with pytest.raises(RefusedError, match="VP 0 is the last"):
        first.result(0)
    assert not second.done()
    orders.take(link.VpChanged(0, ONLINE, b""))
    assert second.result(0) is None


def test_who_is_overtaken_hears_of_it(orders: VpOrders) -> None:
    """An offline that is turned round before it is reached is refused; all who wait for one state have it."""
    first, second = orders.begin(1, online=False), orders.begin(1, online=True)
    orders.take(link.VpChanged(1, LEAVING, b""))
    orders.take(link.VpChanged(1, ONLINE, b""))
    with pytest.raises(RefusedError, match="before it was offline"):
        first.result(0)
    assert second.result(0) is None
    calls = [orders.begin(1, online=False) for _ in range(2)]
    orders.take(link.VpChanged(1, OFFLINE, b""))
    assert [call.result(0) for call in calls] == [None, None]


def test_what_nobody_asked_for_is_no_error(orders: VpOrders) -> None:
    """The administrator's orders are told as well."""
    for state in (LEAVING, OFFLINE, ONLINE):
        orders.take(link.VpChanged(1, state, b""))
    orders.take(link.VpChanged(1, ONLINE, b"an answer to nobody"))


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
        answers.append(Timer(0.05, guest.take, [link.VpChanged(1, ONLINE, b"")]))
        answers[0].start()

    guest = Asking(post)
    with pytest.raises(LinkClosed, match="over"):
        guest.vp_online(1, None)
    answers[0].join()
