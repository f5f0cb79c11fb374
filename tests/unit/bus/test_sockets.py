"""Sockets over VMBus: connects of the guest, and channels that must be opened in time."""

import struct
from uuid import UUID

import pytest

from tests.unit.bus.script import FAILURE, Script, asked, refusals, sent
from vmbusd.abi import device_link, messages, wire
from vmbusd.abi.packing import NO_GUID

ENDPOINT, SERVICE, SILO = UUID(int=0xE), UUID(int=0x5E), UUID(int=0x5110)
REQUEST = messages.TlConnect(ENDPOINT, SERVICE)
REFUSED = messages.TlConnectResult(ENDPOINT, SERVICE, messages.CONNECTION_REFUSED)


def listening(version: int = wire.V5_3) -> Script:
    """A host that provides sockets, and a connected guest."""
    script = Script()
    script.host(device_link.ProvideSockets(1))
    script.connect(version)
    return script


def offered(script: Script) -> Script:
    """A connect that was accepted: the channel has relid 1 and offer id 5."""
    script.guest(REQUEST)
    script.host(device_link.SocketAnswer(1, 0, 5))
    return script


def test_provide() -> None:
    """One host link of a partition provides sockets."""
    script = Script()
    script.links.add(1)

    assert asked(script.host(device_link.ProvideSockets(1))) == [device_link.SocketsProvided(0, b"")]
    (refused,) = asked(script.host(device_link.ProvideSockets(1), 1))
    assert isinstance(refused, device_link.SocketsProvided)
    assert refused.status == messages.UNSUCCESSFUL
    assert asked(script.host(device_link.ProvideSockets(0))) == [device_link.SocketsProvided(0, b"")]
    assert asked(script.host(device_link.ProvideSockets(1), 1)) == [device_link.SocketsProvided(0, b"")]


@pytest.mark.parametrize(("version", "result"), [(wire.V4_0, []), (wire.V4_1, [REFUSED])])
def test_refused(version: int, result: list[messages.TlConnectResult]) -> None:
    """The guest is told from 4.1 on (case 189)."""
    script = listening(version)

    assert asked(script.guest(REQUEST)) == [device_link.SocketConnect(1, ENDPOINT, SERVICE, NO_GUID)]
    assert sent(script.host(device_link.SocketAnswer(1, FAILURE, 0))) == result


@pytest.mark.parametrize(("version", "result"), [(wire.V4_0, []), (wire.V4_1, [REFUSED])])
def test_nobody_provides(version: int, result: list[messages.TlConnectResult]) -> None:
    """It is refused at once (case 189)."""
    script = Script()
    script.connect(version)

    assert sent(script.guest(REQUEST)) == result


def test_accepted() -> None:
    """No result but an offer: interface is the service, instance the endpoint, accept byte 0 (case 190)."""
    script = listening()
    script.guest(REQUEST)

    effects = script.host(device_link.SocketAnswer(1, 0, 5))

    (offer,) = sent(effects)
    assert isinstance(offer, messages.Offer)
    assert (offer.if_type, offer.if_instance, offer.chn_flags) == (SERVICE, ENDPOINT, 0x2011)
    assert offer.user_defined == struct.pack("<IBBI16sH92x", 0, 0, 0, 1, bytes(16), 0)
    assert asked(effects) == [device_link.OfferResult(5, 0, b"")]


def test_a_socket_the_host_begins() -> None:
    """The accept byte is 1 and the guest has 2 s (case 194)."""
    script = listening()
    script.tick(10.0)
    offer = device_link.Offer(5, SERVICE, ENDPOINT, flags=device_link.OfferFlag.SOCKET)

    (message,) = sent(script.host(offer))

    assert isinstance(message, messages.Offer)
    assert (message.chn_flags, message.user_defined[4]) == (0x2011, 1)
    assert script.bus.next_deadline == 12.0


@pytest.mark.parametrize("version", [wire.V5_2, wire.V5_3])
def test_silo_ids(version: int) -> None:
    """The long form carries one, the short form means none (case 191)."""
    script = listening(version)

    assert asked(script.guest(messages.TlConnect2(ENDPOINT, SERVICE, SILO))) == [
        device_link.SocketConnect(1, ENDPOINT, SERVICE, SILO)
    ]
    assert asked(script.guest(REQUEST)) == [device_link.SocketConnect(2, ENDPOINT, SERVICE, NO_GUID)]
    (offer,) = sent(script.host(device_link.SocketAnswer(1, 0, 5)))
    assert isinstance(offer, messages.Offer)
    assert offer.user_defined[10:26] == SILO.bytes_le


def test_sixteen_that_are_not_answered() -> None:
    """The next message of any kind waits until one is (case 192)."""
    script = listening()
    for _ in range(16):
        script.guest(REQUEST)
    assert not script.bus.accepting
    assert script.guest(messages.ModifyChannel(9, 0)) == []

    answers = sent(script.host(device_link.SocketAnswer(3, FAILURE, 0)))

    assert answers == [REFUSED, messages.ModifyChannelResponse(9, messages.UNSUCCESSFUL)]
    assert script.bus.accepting


@pytest.mark.parametrize("how", ["gone", "dead", "stops"])
def test_the_provider_loses_the_request(how: str) -> None:
    """A failure is sent, once (case 193)."""
    script = listening()
    script.guest(REQUEST)
    lose = {
        "gone": script.host_gone,
        "dead": script.host_dead,
        "stops": lambda: script.host(device_link.ProvideSockets(0)),
    }

    assert sent(lose[how]()) == [REFUSED]
    if how == "stops":
        assert refusals(script.host(device_link.SocketAnswer(1, FAILURE, 0))) == ["stale answer"]
    assert sent(script.guest(REQUEST)) == [REFUSED]


def test_an_answer_twice() -> None:
    """The second is refused."""
    script = offered(listening())

    assert refusals(script.host(device_link.SocketAnswer(1, FAILURE, 0))) == ["stale answer"]


def test_an_accept_that_cannot_be_offered() -> None:
    """The guest is told that it failed (case 193)."""
    script = listening()
    script.offer(5)
    script.guest(REQUEST)

    effects = script.host(device_link.SocketAnswer(1, 0, 5))

    assert sent(effects) == [REFUSED]
    (result,) = asked(effects)
    assert isinstance(result, device_link.OfferResult)
    assert result.status == messages.UNSUCCESSFUL


def test_never_opened() -> None:
    """After 5 s the socket is withdrawn (case 194)."""
    script = offered(listening())
    deadlines = [script.bus.next_deadline]
    assert script.tick(4.999) == []

    effects = script.tick(5.0)

    assert sent(effects) == [messages.Rescind(1)]
    assert asked(effects) == [device_link.Withdraw(5)]
    deadlines.append(script.bus.next_deadline)
    assert deadlines == [5.0, None]
    assert asked(script.host(device_link.Revoke(5))) == [device_link.Revoked(5)]
    script.guest(messages.RelidReleased(1))
    assert script.bus.channels() == []


def test_opened_in_time() -> None:
    """Time does nothing to it any more (case 194)."""
    script = offered(listening())
    script.opening(offer_id=5)

    assert script.bus.next_deadline is None
    assert script.tick(100.0) == []


def test_time_does_not_go_back() -> None:
    """An earlier time is the time that was."""
    script = listening()
    script.tick(50.0)
    script.tick(3.0)
    offered(script)

    assert script.bus.next_deadline == 55.0


def test_the_guest_leaves() -> None:
    """Requests are forgotten, sockets are withdrawn: the next guest sees none of them."""
    script = offered(listening())
    script.guest(messages.TlConnect(SILO, SERVICE))

    effects = script.guest(messages.Unload())

    assert asked(effects) == [device_link.Withdraw(5)]
    assert sent(effects) == [messages.UnloadResponse()]
    assert asked(script.host(device_link.Revoke(5))) == [device_link.Revoked(5)]
    assert refusals(script.host(device_link.SocketAnswer(2, 0, 6))) == ["stale answer"]
    assert script.bus.channels() == []
    assert script.bus.next_deadline is None


def test_the_end_of_a_socket() -> None:
    """The host revokes it, and a RESCIND always comes (case 198)."""
    script = offered(listening())
    script.opened(offer_id=5)
    script.guest(messages.Close(1))
    script.host(device_link.Closed(5, 1))

    assert sent(script.host(device_link.Revoke(5))) == [messages.Rescind(1)]
