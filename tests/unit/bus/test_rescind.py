"""Rescind, release, reoffer: a channel whose device goes, and the way of its relid back."""

from uuid import UUID

import pytest

from tests.unit.bus.script import FAILURE, Script, asked, header, range_words, refusals, sent
from vmbusd.abi import device_link, gpadl, messages
from vmbusd.bus.channels import State
from vmbusd.bus.effects import AskHost, CloseSlot, EmptySlot, FillSlot, SendToGuest, SetState

RESCIND = messages.Rescind(1)
RELEASED = messages.RelidReleased(1)
REVOKE = device_link.Revoke(1)


@pytest.fixture
def script() -> Script:
    """One offered channel, relid 1 and offer 1."""
    script = Script()
    script.offer()
    script.connect()
    return script


def test_revoke(script: Script) -> None:
    """One RESCIND; the relid is taken until RELID_RELEASED (cases 123, 124)."""
    effects = script.host(REVOKE)

    assert sent(effects) == [RESCIND]
    assert effects[-1] == AskHost(0, device_link.Revoked(1))
    assert [offer.child_relid for offer in sent(script.offer(2)) if isinstance(offer, messages.Offer)] == [2]
    assert script.guest(RELEASED) == [SetState(1, State.REVOKED_CLIENT_RELEASE), EmptySlot(1, 1)]
    assert [offer.child_relid for offer in sent(script.offer(3)) if isinstance(offer, messages.Offer)] == [1]


@pytest.mark.parametrize("stage", ["opening", "open", "closing"])
def test_revoke_of_a_channel_in_use(script: Script, stage: str) -> None:
    """The slot is closed first, one RESCIND follows, and late completions are dropped (case 125)."""
    script.opening()
    if stage != "opening":
        script.host(device_link.Opened(1, 1, 0))
    if stage == "closing":
        script.guest(messages.Close(1))

    effects = script.host(REVOKE)

    assert (effects[0] == CloseSlot(1, 1, 1)) == (stage != "closing")
    assert sent(effects) == [RESCIND]
    for answer in (device_link.Opened(1, 1, 0), device_link.Closed(1, 1)):
        assert refusals(script.host(answer)) == ["unknown offer"]
    script.guest(RELEASED)
    assert script.claim_free() == [EmptySlot(1, 1)]


def test_the_relid_waits_for_the_claim(script: Script) -> None:
    """Released and rescinded, but a callback still runs: nobody gets relid or flag."""
    script.opened()
    script.host(REVOKE)
    assert script.guest(RELEASED) == [SetState(1, State.REVOKED_CLIENT_RELEASE)]
    assert [offer.child_relid for offer in sent(script.offer(2)) if isinstance(offer, messages.Offer)] == [2]

    assert script.claim_free() == [EmptySlot(1, 1)]
    assert [offer.child_relid for offer in sent(script.offer(3)) if isinstance(offer, messages.Offer)] == [1]
    script.opening(1, offer_id=3)
    assert script.generation(1) == 2


def test_reoffer(script: Script) -> None:
    """The same key before the release: nothing is sent; then OFFER at once with the same relid (case 126)."""
    script.host(REVOKE)
    script.links.add(7)
    assert sent(script.offer(1, host=7)) == []

    effects = script.guest(RELEASED)

    assert [type(effect) for effect in effects] == [SetState, EmptySlot, FillSlot, SetState, SendToGuest]
    assert [offer.child_relid for offer in sent(effects) if isinstance(offer, messages.Offer)] == [1]
    assert script.table[1].fill.host == 7
    assert sent(script.opened(host=7)) == [messages.OpenResult(1, 1, 0)]


def test_reoffer_while_a_callback_runs(script: Script) -> None:
    """The new OFFER waits for the claim of the old open."""
    script.opened()
    script.host(REVOKE)
    script.offer()

    assert sent(script.guest(RELEASED)) == []
    assert script.guest(messages.Close(1))[0].kind == "unknown channel"  # type: ignore[union-attr]
    assert [
        offer.child_relid for offer in sent(script.claim_free()) if isinstance(offer, messages.Offer)
    ] == [1]


@pytest.mark.parametrize("open_first", [True, False])
def test_a_reoffer_revoked_before_the_release(script: Script, open_first: bool) -> None:
    """No second RESCIND and no offer after the release (case 127)."""
    if open_first:
        script.opened()
    script.host(REVOKE)
    script.offer()

    assert sent(script.host(REVOKE)) == []
    effects = script.guest(RELEASED) + (script.claim_free() if open_first else [])
    assert sent(effects) == []
    assert effects[-1] == EmptySlot(1, 1)
    assert script.bus.channels() == []


def test_a_reoffer_revoked_between_release_and_claim(script: Script) -> None:
    """The guest never hears of it."""
    script.opened()
    script.host(REVOKE)
    script.offer()
    script.guest(RELEASED)

    assert sent(script.host(REVOKE)) == []
    assert script.claim_free() == [EmptySlot(1, 1)]


def test_release_of_a_closed_channel(script: Script) -> None:
    """It is accepted, and the channel is offered again only on the next connection (case 128)."""
    assert script.guest(RELEASED) == [SetState(1, State.CLOSING_CLIENT_RELEASE), EmptySlot(1, 1)]
    assert refusals(script.guest(RELEASED)) == ["unknown channel"]

    script.guest(messages.Unload())
    assert RESCIND not in sent(script.connect())
    assert script.state_of() is State.CLOSED


def test_release_at_a_bad_time(script: Script) -> None:
    """Opening, open and reopening: refused; plainly closing: accepted (case 129)."""
    script.opening()
    assert refusals(script.guest(RELEASED)) == ["wrong state"]
    script.host(device_link.Opened(1, 1, 0))
    assert refusals(script.guest(RELEASED)) == ["wrong state"]
    script.guest(messages.Close(1))
    script.guest(messages.Open(1, 1, 1, 0, 2, bytes(120)))
    assert refusals(script.guest(RELEASED)) == ["wrong state"]


def test_release_while_closing(script: Script) -> None:
    """The relid waits for device, memory and claim (case 129)."""
    script.opened()
    script.guest(messages.Close(1))

    assert asked(script.guest(RELEASED)) == [device_link.Teardown(1, 1)]
    script.host(device_link.Closed(1, 1))
    assert script.host(device_link.GpadlTornDown(1, 1)) == []
    assert script.claim_free() == [EmptySlot(1, 1)]


@pytest.mark.parametrize("relid", [0, 2, 2047, 2048, 0xFFFFFFFF])
def test_release_of_an_unknown_relid(script: Script, relid: int) -> None:
    """It is refused (case 130)."""
    assert refusals(script.guest(messages.RelidReleased(relid))) == ["unknown channel"]


def test_revoke_twice(script: Script) -> None:
    """The second finds no offer and sends nothing (case 131)."""
    script.host(REVOKE)

    assert refusals(script.host(REVOKE)) == ["unknown offer"]


@pytest.mark.parametrize("status", [0, FAILURE])
def test_revoke_after_the_guest_left(script: Script, status: int) -> None:
    """A channel that is closing for a gone guest is dropped without a message."""
    script.opened()
    script.guest(messages.Unload())

    effects = script.host(REVOKE)

    assert sent(effects) == []
    assert sent(script.claim_free()) == [messages.UnloadResponse()]
    assert refusals(script.host(device_link.Opened(1, 1, status))) == ["unknown offer"]


def test_gpadls_of_a_rescinded_channel(script: Script) -> None:
    """Created and torn down at once, the device hears nothing (case 100)."""
    script.host(REVOKE)

    assert script.guest(header(1, 9, range_words(4096, 0, 1)))[0] == SendToGuest(
        b"\x0a".ljust(8, b"\0") + bytes([1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]), 0, 2
    )
    effects = script.guest(messages.GpadlTeardown(1, 9))
    assert sent(effects) == [messages.GpadlTorndown(9)]
    assert asked(effects) == []


def test_a_gpadl_that_was_unfinished_at_the_rescind(script: Script) -> None:
    """It can be finished, and is accepted without a device."""
    first, last = gpadl.split(1, 9, [gpadl.whole_pages(range(30))])
    script.guest(first)
    script.host(REVOKE)

    assert sent(script.guest(last)) == [messages.GpadlCreated(1, 9, 0)]


def test_an_unanswered_gpadl_at_the_rescind(script: Script) -> None:
    """Failure, then RESCIND (case 101)."""
    script.create_gpadl()

    assert sent(script.host(REVOKE)) == [messages.GpadlCreated(1, 1, messages.UNSUCCESSFUL), RESCIND]


def test_an_unanswered_teardown_at_the_rescind(script: Script) -> None:
    """GPADL_TORNDOWN, then RESCIND; failures of others come before both (case 102)."""
    script.create_gpadl(1, 1)
    script.accept_gpadl(1, 1)
    script.guest(messages.GpadlTeardown(1, 1))
    script.create_gpadl(1, 2)

    assert sent(script.host(REVOKE)) == [
        messages.GpadlCreated(1, 2, messages.UNSUCCESSFUL),
        messages.GpadlTorndown(1),
        RESCIND,
    ]


def test_the_rings_of_a_rescinded_channel(script: Script) -> None:
    """RESCIND goes at once; the memory comes back when no callback runs any more (case 098)."""
    script.opened()
    script.host(REVOKE)

    assert sent(script.guest(messages.GpadlTeardown(1, 1))) == []
    assert sent(script.claim_free()) == [messages.GpadlTorndown(1)]


def test_rings_held_by_the_device_come_back_before_the_rescind(script: Script) -> None:
    """A closing channel whose claim is free waited for its device only."""
    script.opened()
    script.guest(messages.Close(1))
    script.guest(messages.GpadlTeardown(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))
    script.claim_free()

    assert sent(script.host(REVOKE)) == [messages.GpadlTorndown(1), RESCIND]


def test_a_host_that_is_gone(script: Script) -> None:
    """Its offers are rescinded, sub-channels first; those of others are untouched (cases 113, 177)."""
    script.offer(2, index=0, interface=5)
    script.links.add(3)
    script.offer(3, host=3)
    script.offer(4, index=1, interface=5)
    script.offer(5, index=2, interface=5)

    effects = script.host_gone()

    assert sent(effects) == [messages.Rescind(relid) for relid in (4, 5, 1, 2)]
    assert asked(effects) == []
    assert [view.host for view in script.bus.channels()] == [-1, -1, 3, -1, -1]


def test_a_host_that_is_gone_but_not_dead(script: Script) -> None:
    """Rings and relid wait for its death: it may be signalling still (docs/design.md section 2)."""
    script.opened()

    assert sent(script.host_gone()) == [RESCIND]
    script.claim_free()
    assert sent(script.guest(messages.GpadlTeardown(1, 1))) == []
    assert sent(script.host_dead()) == [messages.GpadlTorndown(1)]
    assert script.guest(RELEASED)[-1] == EmptySlot(1, 1)


def test_an_unload_waits_for_the_death_of_a_host(script: Script) -> None:
    """UNLOAD_COMPLETE promises that nobody signals any more."""
    script.opened()
    script.host_gone()
    script.claim_free()

    assert sent(script.guest(messages.Unload())) == []
    assert sent(script.host_dead()) == [messages.UnloadResponse()]


def test_a_host_that_had_nothing_open(script: Script) -> None:
    """There is nothing to wait for: the relid is free at once."""
    script.host_gone()

    assert script.guest(RELEASED)[-1] == EmptySlot(1, 1)


def test_a_dead_host(script: Script) -> None:
    """Death is the end of the link and every acknowledgement."""
    script.opened()

    assert sent(script.host_dead()) == [RESCIND]
    script.guest(RELEASED)
    assert script.claim_free() == [EmptySlot(1, 1)]


def test_another_host_takes_over_from_one_that_is_not_dead(script: Script) -> None:
    """The offer waits until the first one's process is gone."""
    script.opened()
    script.host_gone()
    script.claim_free()
    script.links.add(1)
    assert sent(script.offer(1, host=1)) == []
    assert sent(script.guest(RELEASED)) == []

    effects = script.host_dead(0)

    assert [offer.child_relid for offer in sent(effects) if isinstance(offer, messages.Offer)] == [1]
    assert script.table[1].fill.host == 1


def test_two_hosts_may_still_be_signalling() -> None:
    """A relid waits for both: the one that is gone and lives, and the one whose re-offer was withdrawn."""
    script = Script()
    script.links = {0, 1}
    script.offer(1, host=1, index=0)
    script.host(device_link.Offer(2, UUID(int=1), UUID(int=1), subchannel_index=1))
    script.connect()
    script.opened(1, offer_id=1, host=1)
    script.opened(2, offer_id=2)
    script.host_gone(0)
    script.claim_free(2)
    script.host(device_link.Offer(3, UUID(int=1), UUID(int=1), subchannel_index=1), host=1)
    assert device_link.Withdraw(3) in asked(script.guest(messages.Close(1)))
    script.guest(messages.RelidReleased(2))

    assert EmptySlot(2, 2) not in script.host_dead(0)
    assert EmptySlot(2, 2) in script.host(device_link.Revoke(3), host=1)


def test_the_order_in_which_memory_comes_back(script: Script) -> None:
    """What a host that is gone may still touch comes back when it is dead, first what was asked first."""
    script.create_gpadl(1, 8)
    script.accept_gpadl(1, 8)
    script.create_gpadl(1, 9)
    script.accept_gpadl(1, 9)
    script.opened()
    script.host_gone()
    script.claim_free()
    for handle in (9, 1, 8):
        assert script.guest(messages.GpadlTeardown(1, handle)) == []

    assert sent(script.host_dead(0)) == [messages.GpadlTorndown(handle) for handle in (9, 1, 8)]


def test_reconnect_after_a_reoffer(script: Script) -> None:
    """An unload forgets the rescind: the device is in the next list."""
    script.opened()
    script.host(REVOKE)
    script.offer()
    assert sent(script.guest(messages.Unload())) == []
    assert sent(script.claim_free()) == [messages.UnloadResponse()]

    assert [offer.child_relid for offer in sent(script.connect()) if isinstance(offer, messages.Offer)] == [1]


def test_unload_between_release_and_claim_of_a_reoffered_channel(script: Script) -> None:
    """The unload waits for the claim, and the channel is offered on the next connection only."""
    script.opened()
    script.host(REVOKE)
    script.offer()
    script.guest(RELEASED)
    assert sent(script.guest(messages.Unload())) == []

    assert sent(script.claim_free()) == [messages.UnloadResponse()]


def test_the_same_key_while_the_old_channel_drains(script: Script) -> None:
    """After the release it is a new channel: offered at once, under another relid."""
    script.opened()
    script.host(REVOKE)
    script.guest(RELEASED)

    assert [offer.child_relid for offer in sent(script.offer()) if isinstance(offer, messages.Offer)] == [2]
    assert script.claim_free() == [EmptySlot(1, 1)]
    assert [view.relid for view in script.bus.channels()] == [2]
