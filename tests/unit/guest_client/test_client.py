"""The guest's connection, as scripts of messages: what it sends, what it ends, what it refuses."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_client import actions
from guest_client.client import Client
from guest_client.entries import State
from guest_client.phases import Phase
from guest_client.versions import Options
from tests.unit.guest_client.script import begin_open, connected, ends, offer, only, opened, sent, tell
from vmbusd.abi import link, messages, wire
from vmbusd.abi.errors import ChannelGone, LinkClosed, RefusedError, UsageError

# -- contact ------------------------------------------------------------------------------------------------


def test_contact_at_5_3_is_what_linux_sends() -> None:
    """Contact goes to message connection 4 with SINT 2; what follows goes to the connection of the answer."""
    client = Client()
    (post,) = client.contact("contact")

    assert isinstance(post, actions.Post)
    assert post.connection == link.MESSAGE_CONNECTION_MULTI_CLIENT
    assert sent([post]) == [messages.InitiateContact(wire.V5_3, 0, 2, 0, 0, 0, 0)]

    assert ends(tell(client, messages.VersionResponse(1, 0, 17))) == {"contact": None}
    (request,) = client.request_offers()
    assert isinstance(request, actions.Post)
    assert request.connection == 17
    assert client.version == wire.V5_3


def test_versions_are_asked_downward_until_one_is_accepted() -> None:
    """Each version is asked once, newest first; offers are requested only after the acceptance (case 025)."""
    client = Client(Options(versions=(wire.V5_3, wire.V5_2, wire.V5_1)))
    no = messages.VersionResponse(0, 0, 0)
    asked = sent(client.contact("contact")) + sent(tell(client, no)) + sent(tell(client, no))

    assert [message.vmbus_version_requested for message in asked] == [wire.V5_3, wire.V5_2, wire.V5_1]  # type: ignore[attr-defined]
    assert ends(tell(client, messages.VersionResponse(1, 0, 1))) == {"contact": None}
    assert client.version == wire.V5_1


def test_no_common_version_leaves_the_client_ready_for_another_try() -> None:
    """After the oldest refusal contact fails, nothing else was sent, and it may be tried again (case 026)."""
    client = Client(Options(versions=(wire.V5_3,)))
    client.contact("first")
    error = ends(tell(client, messages.VersionResponse(0, 0, 0)))["first"]

    assert isinstance(error, RefusedError)
    assert "no common protocol version" in str(error)
    assert client.state is State.DISCONNECTED
    client.contact("second")
    assert ends(tell(client, messages.VersionResponse(1, 0, 1))) == {"second": None}


def test_a_host_short_of_resources_ends_the_contact() -> None:
    """Supported with connection state 1 fails with that state and tries no lower version (case 027)."""
    client = Client(Options(versions=(wire.V5_3, wire.V5_2)))
    client.contact("contact")
    happened = tell(client, messages.VersionResponse(1, 1, 0))

    error = ends(happened)["contact"]
    assert isinstance(error, RefusedError)
    assert error.code == messages.ConnectionState.LOW_RESOURCES
    assert sent(happened) == []


def test_connecting_twice_is_a_usage_error() -> None:
    """A connected client refuses to connect again and sends nothing (case 028)."""
    with pytest.raises(UsageError, match="connected, not disconnected"):
        connected().contact("again")


# -- offers -------------------------------------------------------------------------------------------------


def test_offers_before_and_after_the_list() -> None:
    """Offers of the list come before its end, a later one comes alone (case 046)."""
    client = Client()
    client.contact("contact")
    tell(client, messages.VersionResponse(1, 0, 1))
    client.request_offers()
    happened = [
        *tell(client, offer(3)),
        *tell(client, messages.AllOffersDelivered()),
        *tell(client, offer(4)),
    ]

    assert happened == [actions.Offered(offer(3)), actions.OffersDelivered(), actions.Offered(offer(4))]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (messages.AllOffersDelivered(), "nobody is collecting"),
        (offer(9, instance=7), "exists already"),
        (offer(7, instance=99), "in use"),
        (offer(0), "out of range"),
        (offer(2048), "out of range"),
        (offer(0xFFFFFFFF), "out of range"),
        (messages.Rescind(8), "names no channel"),
        (messages.UnloadResponse(), "while connected"),
        (messages.VersionResponse(1, 0, 1), "while connected"),
        (messages.GpadlTorndown(0xE1E10), "answers nothing"),
        (messages.GpadlCreated(7, 0xE1E10, 0), "answers nothing"),
        (messages.OpenResult(7, 7, 0), "answers nothing"),
        (messages.ModifyChannelResponse(7, 0), "answers nothing"),
    ],
)
def test_what_the_host_may_not_send_changes_nothing(message: msgspec.Struct, reason: str) -> None:
    """Each is refused with a reason and channel 7 stays as it was (cases 047, 048, 049, 050, 132, 173)."""
    client = connected(7)
    before = dict(client.channels)
    (refused,) = tell(client, message)

    assert isinstance(refused, actions.Refused)
    assert reason in refused.reason
    assert client.channels == before
    assert client.channels[7].phase is Phase.OFFERED


def test_an_offer_nobody_asked_for_is_refused() -> None:
    """Between contact and REQUEST_OFFERS no offer is taken."""
    client = Client()
    client.contact("contact")
    tell(client, messages.VersionResponse(1, 0, 1))

    (refused,) = tell(client, offer(1))
    assert isinstance(refused, actions.Refused)
    assert client.channels == {}


# -- the end ------------------------------------------------------------------------------------------------


def test_unload_ends_everything() -> None:
    """What is pending fails at once, memory is free at the answer, contact works again (cases 157, 161)."""
    client = opened()
    client.retarget(5, 2, "two")
    happened = client.unload("unload")

    assert isinstance(ends(happened)["two"], ChannelGone)
    assert only(happened, actions.Detach) == [actions.Detach(5)]
    assert sent(happened) == [messages.Unload()]
    (refused,) = tell(client, offer(9))
    assert isinstance(refused, actions.Refused)
    assert tell(client, messages.UnloadResponse()) == [actions.Free(5), actions.Done("unload")]
    assert client.channels == {}
    client.contact("again")


def test_a_lost_link_fails_whatever_waits() -> None:
    """When the link ends every waiting call hears why, and no ring memory is given back (case 078)."""
    client = connected(4, 5)
    begin_open(client, 4, "opening")
    error = LinkClosed("the daemon closed the link")
    happened = client.lost(error)

    assert ends(happened) == {"opening": error}
    assert only(happened, actions.Free) == []
    assert only(happened, actions.Detach) == []
    for operation, arguments in ((begin_open, (client, 5)), (client.close, (5, "")), (client.unload, ("",))):
        with pytest.raises(LinkClosed, match="the daemon closed the link"):
            operation(*arguments)
    waiting = Client()
    waiting.contact("contact")
    assert ends(waiting.lost(error)) == {"contact": error}


@given(st.binary(max_size=260))
def test_random_bytes_never_raise(data: bytes) -> None:
    """Whatever the daemon sends is handled or refused (case 314)."""
    client = opened()
    client.receive(data)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 4, 6, 10, 12, 15, 17, 24]), st.binary(max_size=240)), max_size=8
    )
)
def test_well_numbered_random_messages_never_raise(script: list[tuple[int, bytes]]) -> None:
    """The right numbers with random bodies are handled or refused, in any order (case 314)."""
    client = opened()
    for number, body in script:
        client.receive((number.to_bytes(8, "little") + body)[:240])
