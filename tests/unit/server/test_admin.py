"""The administrator's stream, without a socket: pieces, order, limits and what each error is called."""

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from vmbusd.abi.errors import ProtocolError, ResourceError, UsageError
from vmbusd.server import limits, log, requests
from vmbusd.server.admin import AdminLink, Result, UnknownPartition
from vmbusd.server.requests import Answer, Request


class Transport:
    """Takes answers; full after `room` of them until emptied."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.written: list[dict[str, Any]] = []
        self.reading = True
        self.closed = False
        self.link: AdminLink

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == limits.MAX_ADMIN_OUTPUT

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(json.loads(data))
        if len(self.written) == self.room:
            self.link.pause_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True


def linked(act: Callable[[Request], Result], room: int = -1) -> tuple[AdminLink, Transport]:
    """A link whose requests go to `act`."""
    transport = Transport(room)
    transport.link = AdminLink(act, lambda _: None, log.get())
    transport.link.connection_made(cast(asyncio.Transport, transport))
    return transport.link, transport


def test_one_answer_per_line_in_order() -> None:
    """Whatever the pieces are; empty lines are nothing."""
    link, transport = linked(lambda request: {"partition": getattr(request, "partition", "")})
    text = b'{"command":"table","partition":"a"}\n\r\n \n{"command":"status"}\n'

    for byte in text:
        link.data_received(bytes([byte]))
    link.data_received(text * 2)

    assert [answer["result"]["partition"] for answer in transport.written] == ["a", ""] * 3


def test_no_request_is_taken_while_answers_pile_up() -> None:
    """Not even one that was read already; all are answered in the end."""
    link, transport = linked(lambda _: {}, room=2)
    link.data_received(b'{"command":"status"}\n' * 5)
    assert (len(transport.written), transport.reading) == (2, False)

    transport.room = 4
    link.resume_writing()
    assert (len(transport.written), transport.reading) == (4, False)
    link.resume_writing()

    assert (len(transport.written), transport.reading) == (5, True)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_is_the_last(end: bytes) -> None:
    """With or without its end; what was asked before it is answered."""
    link, transport = linked(lambda _: {})

    link.data_received(b'{"command":"status"}\n' + b"x" * (limits.MAX_ADMIN_REQUEST + 1) + end)
    link.data_received(b'{"command":"status"}\n')

    assert [answer["ok"] for answer in transport.written] == [True, False]
    assert transport.closed


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ProtocolError("x"), "bad-request"),
        (UnknownPartition("x"), "unknown-partition"),
        (UsageError("x"), "refused"),
        (ResourceError("x"), "resource"),
        (ZeroDivisionError("secret"), "internal"),
    ],
)
def test_an_error_is_named_by_its_meaning(error: Exception, kind: str) -> None:
    """Ours with their text; a mistake of the program by its type, and the link goes on."""

    def act(_: Request) -> dict[str, object]:
        raise error

    link, transport = linked(act)
    link.data_received(b'{"command":"status"}\n')

    (answer,) = transport.written
    assert answer["error"]["kind"] == kind
    assert "secret" not in answer["error"]["text"]
    assert not transport.closed


@pytest.mark.parametrize(
    "request_",
    [
        requests.Status(),
        requests.Channels("a"),
        requests.Table("a"),
        requests.PartitionAdd("a", 3, "1M", "eventfd", [5]),
        requests.PartitionRemove("a"),
    ],
)
def test_every_request_survives_its_line(request_: Request) -> None:
    """What a client encodes is what the daemon decodes; answers likewise."""
    assert requests.decode_request(requests.encode(request_)) == request_
    answer = Answer(ok=True, result={"x": [1, None]})
    assert requests.decode_answer(requests.encode(answer)) == answer
    with pytest.raises(ProtocolError):
        requests.decode_answer(b"<html>")


def test_a_daemon_that_stops_tells_a_client_whose_connection_is_only_being_made() -> None:
    """The farewell waits for the transport; ending again changes nothing."""
    transport = Transport(-1)
    link = transport.link = AdminLink(lambda _: {}, lambda _: None, log.get())
    farewell = Answer(ok=False, error=requests.Error("refused", "stopping"))

    link.end(farewell)
    link.end(farewell)
    link.connection_made(cast(asyncio.Transport, transport))

    assert [answer["error"]["kind"] for answer in transport.written] == ["refused"]
    assert transport.closed


def test_an_answer_that_comes_later_holds_up_those_behind_it() -> None:
    """Requests after it are neither read nor carried out before; answers stay in order."""
    loop = asyncio.new_event_loop()
    later: asyncio.Future[dict[str, object]] = loop.create_future()
    link, transport = linked(lambda request: later if isinstance(request, requests.Reset) else {"now": True})

    link.data_received(b'{"command":"reset","partition":"a"}\n{"command":"status"}\n{"comm')
    assert (transport.written, transport.reading) == ([], False)
    link.data_received(b'and":"status"}\n')
    assert transport.written == []
    later.set_result({"later": True})
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    assert [answer["result"] for answer in transport.written] == [
        {"later": True},
        {"now": True},
        {"now": True},
    ]
    assert transport.reading is True


@pytest.mark.parametrize(
    ("error", "kind"),
    [(UsageError("no"), "refused"), (ResourceError("none"), "resource"), (OSError(), "internal")],
)
def test_a_later_error_is_an_answer_too(error: Exception, kind: str) -> None:
    """With the same kinds as one that comes at once."""
    loop = asyncio.new_event_loop()
    later: asyncio.Future[dict[str, object]] = loop.create_future()
    link, transport = linked(lambda _: later)

    link.data_received(b'{"command":"status"}\n')
    later.set_exception(error)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    assert [answer["error"]["kind"] for answer in transport.written] == [kind]


def test_nobody_waits_for_a_later_answer_any_more() -> None:
    """The administrator has left, or the daemon stops: nothing is written, nothing is reported."""
    loop = asyncio.new_event_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))

    def leave(*, cancelled: bool) -> None:
        later: asyncio.Future[dict[str, object]] = loop.create_future()
        link, transport = linked(lambda _: later)
        link.data_received(b'{"command":"status"}\n')
        link.connection_lost(None)
        if cancelled:
            later.cancel()
        else:
            later.set_exception(UsageError("no"))
        loop.run_until_complete(asyncio.sleep(0))
        assert transport.written == []

    leave(cancelled=False)
    leave(cancelled=True)
    gc.collect()
    loop.close()

    assert faults == []
