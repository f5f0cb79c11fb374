"""One channel of the guest, as scripts of messages: open, close, retarget and rescind, in every order."""

import json
from pathlib import Path

import pytest

from guest_client import actions
from guest_client.phases import Phase
from tests.unit.guest_client.script import begin_open, connected, ends, offer, only, opened, sent, tell
from vmbusd.abi import messages
from vmbusd.abi.errors import ChannelGone, RefusedError, UsageError

# -- open and close -----------------------------------------------------------------------------------------


def test_open_creates_the_gpadl_and_then_opens() -> None:
    """GPADL_HEADER, GPADL_CREATED, OPENCHANNEL with open id = relid, the result (cases 054, 107)."""
    client = connected(5)
    (header,) = sent(begin_open(client, 5))

    assert isinstance(header, messages.GpadlHeader)
    assert (header.child_relid, header.gpadl, header.rangecount) == (5, 0xE1E10, 1)
    (request,) = sent(tell(client, messages.GpadlCreated(5, 0xE1E10, 0)))
    assert request == messages.Open(5, 5, 0xE1E10, 1, 2, b"hello".ljust(120, b"\0"))
    assert ends(tell(client, messages.OpenResult(5, 5, 0))) == {"open": None}


def test_a_channel_may_be_closed_as_soon_as_it_is_open() -> None:
    """By the answer to its open, for who asks while it is being opened; of any other it does nothing."""
    client = connected(5)
    assert not client.close_once_open(5)
    begin_open(client, 5)
    assert client.close_once_open(5)
    tell(client, messages.GpadlCreated(5, 0xE1E10, 0))
    assert client.close_once_open(5)
    happened = tell(client, messages.OpenResult(5, 5, 0))
    assert ends(happened) == {"open": None}
    assert sent(happened) == [messages.Close(5)]
    client = opened()
    assert not client.close_once_open(5)
    assert client.channels[5].phase is Phase.OPEN


def test_the_messages_of_a_channels_life_are_linux_bytes() -> None:
    """Opening and closing a storage channel sends, byte for byte, what the Linux driver sends (vectors)."""
    vectors = Path(__file__).parents[2] / "vectors" / "control-messages.json"
    by_name = {vector["name"]: vector for vector in json.loads(vectors.read_text())}
    parts = [by_name[f"chan-stor-{number}"] for number in range(4)]
    relid, handle = parts[0]["fields"]["child_relid"], parts[0]["fields"]["gpadl"]
    pfns = [pfn for part in parts[:3] for pfn in part["fields"]["pfns"]]
    request = parts[3]["fields"]
    client = connected(relid)
    client._next_gpadl = handle

    happened = client.open(
        relid,
        "open",
        pfns=pfns,
        downstream=request["downstream_ringbuffer_pageoffset"],
        target_vp=request["target_vp"],
        user_data=bytes.fromhex(request["userdata"]),
    )
    happened += tell(client, messages.GpadlCreated(relid, handle, 0))
    happened += tell(client, messages.OpenResult(relid, relid, 0))
    happened += client.close(relid, "close")
    happened += client.quiet(relid)

    names = [*(f"chan-stor-{number}" for number in range(4)), "chan-stor-close-0", "chan-stor-close-1"]
    posts = only(happened, actions.Post)
    assert [post.data.hex() for post in posts] == [by_name[name]["hex"] for name in names]


def test_a_result_for_another_request_is_ignored() -> None:
    """A result whose relid or open id does not match the request is refused (case 056)."""
    client = connected(5, 6)
    begin_open(client, 5)
    tell(client, messages.GpadlCreated(5, 0xE1E10, 0))

    for stray in (messages.OpenResult(5, 6, 0), messages.OpenResult(6, 6, 0)):
        (refused,) = tell(client, stray)
        assert isinstance(refused, actions.Refused)
    assert ends(tell(client, messages.OpenResult(5, 5, 0))) == {"open": None}


def test_close_waits_for_quiet_before_the_teardown() -> None:
    """Detach, CLOSECHANNEL, wait until no callback can run, GPADL_TEARDOWN, TORNDOWN, free (case 076)."""
    client = opened()
    handle = client.channels[5].gpadl

    detach, post, watch = client.close(5, "close")
    assert (detach, watch) == (actions.Detach(5), actions.Watch(5))
    assert sent([post]) == [messages.Close(5)]
    assert sent(client.quiet(5)) == [messages.GpadlTeardown(5, handle)]
    assert tell(client, messages.GpadlTorndown(handle)) == [actions.Free(5), actions.Done("close")]
    assert client.channels[5].phase is Phase.OFFERED


def test_a_second_close_joins_the_first() -> None:
    """Two callers that close one channel send one CLOSECHANNEL and return on the one TORNDOWN (case 109)."""
    client = opened()
    client.close(5, "first")
    assert client.close(5, "second") == []
    client.quiet(5)
    assert client.close(5, "third") == []

    happened = tell(client, messages.GpadlTorndown(client.channels[5].gpadl))
    assert ends(happened) == {"first": None, "second": None, "third": None}


def test_a_closed_channel_opens_again_with_a_new_handle() -> None:
    """Every GPADL of a connection has a handle of its own (case 107)."""
    client = opened()
    first = client.channels[5].gpadl
    client.close(5, "close")
    client.quiet(5)
    tell(client, messages.GpadlTorndown(first))

    begin_open(client, 5)
    assert client.channels[5].gpadl == first + 1


@pytest.mark.parametrize("phase", [Phase.OFFERED, Phase.CREATING, Phase.OPENING])
def test_closing_what_is_not_open_is_a_usage_error(phase: Phase) -> None:
    """Closing a channel that was not opened is a local error and sends nothing (case 077)."""
    client = connected(5)
    if phase is not Phase.OFFERED:
        begin_open(client, 5)
    if phase is Phase.OPENING:
        tell(client, messages.GpadlCreated(5, 0xE1E10, 0))

    with pytest.raises(UsageError, match=f"{phase}, not open"):
        client.close(5, "close")


def test_opening_twice_is_a_usage_error() -> None:
    """A channel that is open, or being opened or closed, cannot be opened."""
    client = opened()
    with pytest.raises(UsageError, match="is open and cannot be opened"):
        begin_open(client, 5)
    client.close(5, "close")
    with pytest.raises(UsageError, match="is closing and cannot be opened"):
        begin_open(client, 5)


def test_open_refuses_what_the_wire_cannot_carry() -> None:
    """121 bytes of user data, 8191 pages, a ring offset outside them: local errors (cases 068, 308)."""
    client = connected(5)
    for pages, downstream, data in ((4, 2, bytes(121)), (8191, 2, b""), (4, 0, b""), (4, 4, b"")):
        with pytest.raises(UsageError):
            client.open(5, "open", pfns=range(pages), downstream=downstream, target_vp=0, user_data=data)
    assert client.channels[5].phase is Phase.OFFERED


def test_a_refused_gpadl_fails_the_open_and_leaves_nothing() -> None:
    """A GPADL_CREATED with a status ends the open and frees the memory; opening works again (case 106)."""
    client = connected(5)
    begin_open(client, 5)
    happened = tell(client, messages.GpadlCreated(5, 0xE1E10, 0x8000FFFF))

    error = ends(happened)["open"]
    assert isinstance(error, RefusedError)
    assert error.code == 0x8000FFFF
    assert only(happened, actions.Free) == [actions.Free(5)]
    begin_open(client, 5)


def test_a_refused_open_tears_its_gpadl_down_first() -> None:
    """When the open's error is told, the ring GPADL is torn down and the channel can be opened (case 079)."""
    client = connected(5)
    begin_open(client, 5)
    tell(client, messages.GpadlCreated(5, 0xE1E10, 0))

    assert tell(client, messages.OpenResult(5, 5, 0x8000FFFF)) == [actions.Detach(5), actions.Watch(5)]
    with pytest.raises(UsageError, match="not open"):
        client.close(5, "close")
    assert sent(client.quiet(5)) == [messages.GpadlTeardown(5, 0xE1E10)]
    happened = tell(client, messages.GpadlTorndown(0xE1E10))
    assert isinstance(ends(happened)["open"], RefusedError)
    assert only(happened, actions.Free) == [actions.Free(5)]
    begin_open(client, 5)


# -- retarget -----------------------------------------------------------------------------------------------


def test_retargets_of_one_channel_go_one_by_one() -> None:
    """A MODIFYCHANNEL is sent when the one before was answered; a refusal is told (cases 149, 153)."""
    client = opened()
    assert sent(client.retarget(5, 2, "two")) == [messages.ModifyChannel(5, 2)]
    assert client.retarget(5, 3, "three") == []

    happened = tell(client, messages.ModifyChannelResponse(5, 0))
    assert ends(happened) == {"two": None}
    assert sent(happened) == [messages.ModifyChannel(5, 3)]
    error = ends(tell(client, messages.ModifyChannelResponse(5, 0x8000FFFF)))["three"]
    assert isinstance(error, RefusedError)


def test_a_close_ends_the_retargets_and_their_late_answer() -> None:
    """The close goes on while a retarget is under way, whose late answer means nothing (case 151)."""
    client = opened()
    client.retarget(5, 2, "two")
    client.retarget(5, 3, "three")
    happened = client.close(5, "close")

    assert [type(error) for error in ends(happened).values()] == [ChannelGone, ChannelGone]
    (refused,) = tell(client, messages.ModifyChannelResponse(5, 0))
    assert isinstance(refused, actions.Refused)


def test_only_open_channels_are_retargeted() -> None:
    """Retargeting a channel that is not open is an error (case 152)."""
    with pytest.raises(UsageError, match="offered, not open"):
        connected(5).retarget(5, 1, "retarget")


# -- rescind ------------------------------------------------------------------------------------------------


def test_a_rescind_ends_an_open_that_waits_for_its_gpadl() -> None:
    """The wait for GPADL_CREATED ends with the rescind; the late answer is ignored (cases 105, 135)."""
    client = connected(5)
    begin_open(client, 5)
    happened = tell(client, messages.Rescind(5))

    assert isinstance(ends(happened)["open"], ChannelGone)
    (refused,) = tell(client, messages.GpadlCreated(5, 0xE1E10, 0))
    assert isinstance(refused, actions.Refused)


def test_a_rescind_ends_an_open_that_waits_for_its_result() -> None:
    """The wait for OPEN_RESULT ends with the rescind; memory is free once no callback can run (case 135)."""
    client = connected(5)
    begin_open(client, 5)
    tell(client, messages.GpadlCreated(5, 0xE1E10, 0))
    happened = tell(client, messages.Rescind(5))

    assert isinstance(ends(happened)["open"], ChannelGone)
    assert sent(happened) == []
    assert happened[0] == actions.Detach(5)
    assert happened[-1] == actions.Watch(5)
    assert client.quiet(5) == [actions.Free(5), actions.Gone(5)]


def test_an_open_channel_is_closed_and_released_after_a_rescind() -> None:
    """CLOSECHANNEL but no TEARDOWN, then the callback's end, then RELID_RELEASED (cases 108, 136, 137)."""
    client = opened()
    assert sent(tell(client, messages.Rescind(5))) == [messages.Close(5)]
    with pytest.raises(UsageError, match="not at rest"):
        client.release(5)
    assert client.quiet(5) == [actions.Free(5), actions.Gone(5)]
    assert sent(client.release(5)) == [messages.RelidReleased(5)]
    assert client.channels == {}


@pytest.mark.parametrize("tearing", [False, True])
def test_a_rescind_ends_a_close_under_way(tearing: bool) -> None:
    """A close that meets a rescind sends no more and succeeds; RELID_RELEASED comes last (cases 138, 139)."""
    client = opened()
    client.close(5, "close")
    if tearing:
        client.quiet(5)
    happened = tell(client, messages.Rescind(5))
    assert sent(happened) == []
    assert ends(happened) == {}

    assert client.close(5, "joined") == []
    assert ends(client.quiet(5)) == {"close": None, "joined": None}
    assert ends(client.close(5, "late")) == {"late": None}
    assert sent(client.release(5)) == [messages.RelidReleased(5)]


def test_a_rescind_ends_the_retargets() -> None:
    """A retarget whose channel is rescinded fails, for its answer may never come (case 135)."""
    client = opened()
    client.retarget(5, 2, "two")
    assert isinstance(ends(tell(client, messages.Rescind(5)))["two"], ChannelGone)


def test_a_second_rescind_is_ignored() -> None:
    """Cleanup of a rescinded channel runs once, whatever the phase (case 133)."""
    client = connected(5)
    tell(client, messages.Rescind(5))
    for _ in range(2):
        (refused,) = tell(client, messages.Rescind(5))
        assert isinstance(refused, actions.Refused)
        client.quiet(5)
    client.release(5)
    (refused,) = tell(client, messages.Rescind(5))
    assert isinstance(refused, actions.Refused)


def test_a_rescinded_channel_cannot_be_used() -> None:
    """Opening or retargeting it is a local error and sends nothing (case 140)."""
    client = opened()
    tell(client, messages.Rescind(5))
    with pytest.raises(ChannelGone):
        begin_open(client, 5)
    with pytest.raises(ChannelGone):
        client.retarget(5, 1, "retarget")


def test_a_channel_of_a_connection_that_was_unloaded_is_gone() -> None:
    """Its driver could not know: a probe may come behind the unload. That is no misuse."""
    client = connected(5)
    client.unload("unload")
    with pytest.raises(ChannelGone, match="relid 5 is gone: the connection is unloading"):
        begin_open(client, 5)
    tell(client, messages.UnloadResponse())
    with pytest.raises(ChannelGone, match="relid 5 is gone: the connection is disconnected"):
        begin_open(client, 5)


def test_a_released_relid_is_offered_again() -> None:
    """After RELID_RELEASED the same relid and the same key are good again (case 126)."""
    client = connected(5)
    tell(client, messages.Rescind(5))
    client.quiet(5)
    (refused,) = tell(client, offer(5))
    assert isinstance(refused, actions.Refused)
    client.release(5)
    assert tell(client, offer(5)) == [actions.Offered(offer(5))]
