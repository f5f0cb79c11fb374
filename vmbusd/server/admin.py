"""The administrator's link: lines of JSON on a stream, answered in order.

A line that is no request is answered with an error that names what is wrong, a line that is too long ends the
link after its answer. While answers pile up because the client does not read, nothing more is read from it.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from structlog.typing import FilteringBoundLogger

from vmbusd.abi.errors import ProtocolError, RefusedError, ResourceError, UsageError
from vmbusd.server import limits, requests
from vmbusd.server.requests import Answer, Error, Kind, Request

Result = dict[str, object] | asyncio.Future[dict[str, object]]
"""What becomes of a request: now, or when it is done."""


class UnknownPartition(UsageError):
    """A request names a partition that is not there."""


class AdminLink(asyncio.Protocol):
    """One administrator's connection."""

    def __init__(
        self,
        act: Callable[[Request], Result],
        closed: Callable[["AdminLink"], None],
        log: FilteringBoundLogger,
    ) -> None:
        """`act(request)` gives the result, at once or later, or raises one of our errors."""
        self._act = act
        self._closed = closed
        self._log = log
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._connected = False
        self._ending = False
        self._last: Answer | None = None
        self._paused = False
        self._waiting = False

    @property
    def is_idle(self) -> bool:
        """Every question was answered, every answer has left: another daemon can go on with the socket."""
        if self._ending or not self._connected:
            return not self._ending
        busy = self._waiting or self._buffer or self._transport.get_write_buffer_size()
        return not (busy or self._transport.is_closing())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=limits.MAX_ADMIN_OUTPUT)
        self._connected = True
        if self._last is not None:
            self._say_and_close(self._last)

    def pause_writing(self) -> None:
        """Our answers pile up: take no more requests until they are gone."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._go_on()

    def _go_on(self) -> None:
        self._work()
        if not (self._paused or self._waiting or self._ending):
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._work()

    def _work(self) -> None:
        """Answer the whole lines that are here, as long as the answers find room."""
        at = 0
        while not (self._ending or self._paused or self._waiting):
            end = self._buffer.find(b"\n", at)
            if (len(self._buffer) if end < 0 else end) - at > limits.MAX_ADMIN_REQUEST:
                text = f"a request line has at most {limits.MAX_ADMIN_REQUEST} bytes"
                self.end(Answer(ok=False, error=Error("bad-request", text)))
            if end < 0:
                break
            line = bytes(self._buffer[at:end])
            at = end + 1
            if line.strip() and not self._ending:
                self._do(line)
        del self._buffer[:at]

    def _do(self, line: bytes) -> None:
        """Answer a line, or take no more until the answer is there."""
        answer = self._answer(lambda: self._act(requests.decode_request(line)))
        if isinstance(answer, Answer):
            self._transport.write(requests.encode(answer))
            return
        self._waiting = True
        self._transport.pause_reading()
        answer.add_done_callback(self._done)

    def _done(self, later: asyncio.Future[dict[str, object]]) -> None:
        self._waiting = False
        if self._ending or later.cancelled():
            # Nobody is there any more, or the daemon stops and says so; the result is asked for all the same.
            if not later.cancelled():
                later.exception()
            return
        answer = self._answer(later.result)
        assert isinstance(answer, Answer)
        self._transport.write(requests.encode(answer))
        self._go_on()

    def _answer(self, result: Callable[[], Result]) -> Answer | asyncio.Future[dict[str, object]]:
        kind: Kind
        try:
            found = result()
            return found if isinstance(found, asyncio.Future) else Answer(ok=True, result=found)
        except ProtocolError as error:
            kind, text = "bad-request", str(error)
        except UnknownPartition as error:
            kind, text = "unknown-partition", str(error)
        except (UsageError, RefusedError) as error:
            kind, text = "refused", str(error)
        except ResourceError as error:
            kind, text = "resource", str(error)
        except Exception as error:  # noqa: BLE001
            # A mistake of ours: the client learns that there was one, the log where.
            self._log.exception("internal error")
            kind, text = "internal", f"{type(error).__name__} (the daemon's log says more)"
        return Answer(ok=False, error=Error(kind, text))

    def end(self, last: Answer) -> None:
        """Say one last thing and close."""
        if self._ending:
            return
        self._ending = True
        if self._connected:
            self._say_and_close(last)
        else:
            # Accepted, but the loop has not made the connection yet, and the daemon was told to stop.
            self._last = last

    def _say_and_close(self, last: Answer) -> None:
        self._transport.write(requests.encode(last))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._ending = True
        self._closed(self)
