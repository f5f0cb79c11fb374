"""Plays a script of the guest's side: the client is what is tested, the script is its host and application.

What the client sends and what it tells its application come out in one order, and a script that expects both
expects that order. What it tells need not be expected, except an error; what it sends must be.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from guest_client import actions
from guest_client.client import Client
from tests.conformance import compose, match, script
from tests.conformance.compose import Context
from tests.conformance.guest_port import Port
from tests.conformance.guest_view import CONNECTION, STATES, options_of, seen
from tests.conformance.script import ANYTHING, Failure, Fields, Given, Place, Script, Statement
from tests.conformance.vocabulary import CHANNEL, Kind
from vmbusd.abi import wire
from vmbusd.abi.errors import LinkLost, VmbusError


@dataclass(frozen=True)
class Item:
    """One thing the client did: a message (`name` is "") or something told."""

    name: str
    fields: Fields
    data: bytes = b""
    connection: int = 0

    def __str__(self) -> str:
        if self.name:
            named = (f"{name}={value}" for name, value in self.fields.items())
            return " ".join(["A<", self.name, *named])
        message = match.decode(self.data, wire.Sender.GUEST)
        return f"G> {message if isinstance(message, str) else match.shown(message)}"


class GuestPlayer:
    """One play of one script."""

    def __init__(self, played: Script) -> None:
        self._script = played
        self._given = next(
            (s for s in played.statements if isinstance(s, Given) and s.name == "version"), None
        )
        options = options_of(played, self._given)
        self._context = Context()
        if self._given is not None:
            self._context.version, self._context.features = options.versions[0], options.features
        self._client = Client(options)
        self._port = Port(self._deliver, self._undelivered)
        self._items: deque[Item] = deque()
        self._refused = 0
        self._connected = False
        self._begun = False

    @staticmethod
    def _is_contact(statement: Statement) -> bool:
        return isinstance(statement, script.Message) and bool(statement.kind and statement.kind.number == 14)

    def play(self) -> None:
        """Raises Failure."""
        for statement in self._script.statements:
            early = isinstance(statement, Given) and statement.name in ("version", "offer")
            if not early and not self._begun:
                self._begun = True
                if self._is_contact(statement):
                    # A script that begins with the client's contact need not say that it was called for.
                    self._connected = True
                    self._do("connect", lambda: self._client.contact("connect"))
                elif isinstance(statement, script.Call) and statement.name == "connect" and not self._given:
                    self._connected = True
            if self._given is not None and not self._connected and not early:
                self._connect(self._given)
            self._step(statement)
        self._rest(self._script.statements[-1].place, "at the end of the script")

    # -- givens ----------------------------------------------------------------------------------------------

    def _connect(self, given: Given) -> None:
        self._connected = True
        self._do("connect", lambda: self._client.contact("connect"))
        features = self._context.features
        self._hear(CHANNEL["VERSIONRESPONSE"], {"supported_features": features} if features else {})
        for offer in self._script.statements[: self._first_real()]:
            if isinstance(offer, Given) and offer.name == "offer":
                self._hear(CHANNEL["OFFERCHANNEL"], offer.fields)
        self._hear(CHANNEL["ALLOFFERSDELIVERED"], {})
        if self._client.state != "connected":
            raise Failure(given.place, f"expected connected, got {self._client.state}")
        self._items.clear()

    def _first_real(self) -> int:
        for index, one in enumerate(self._script.statements):
            if not (isinstance(one, Given) and one.name in ("version", "offer")):
                return index
        return len(self._script.statements)

    def _quietly(self, given: Given) -> None:
        self._rest(given.place, f"before `{given.name}`")
        if given.name == "open":
            relid = given.fields.get("child_relid", compose.DEFAULT_RELID)
            fields: Fields = {"relid": relid}
            for name, field in (("vp", "target_vp"), ("offset", "downstream_ringbuffer_pageoffset")):
                if field in given.fields:
                    fields[name] = given.fields[field]
            self._call("open", fields)
            self._hear(CHANNEL["GPADLCREATED"], {"child_relid": relid})
            self._hear(CHANNEL["OPENRESULT"], {"child_relid": relid})
        elif given.kind is not None:
            self._hear(given.kind, given.fields)
        errors = [item for item in self._items if item.name == "error"]
        if errors:
            raise Failure(given.place, f"`{given.text}` led to {errors[0]}")
        self._items.clear()

    # -- statements ------------------------------------------------------------------------------------------

    def _step(self, statement: Statement) -> None:
        if isinstance(statement, script.Message) and not statement.into:
            self._expect_message(statement)
            return
        if isinstance(statement, script.Told):
            self._expect_told(statement)
            return
        if isinstance(statement, Given) and (statement.name == "version" or not self._connected):
            return
        if not isinstance(statement, Given):
            self._rest(statement.place, f"before `{statement.text}`")
        match statement:
            case Given():
                self._quietly(statement)
            case script.Message(raw=bytes(raw)):
                self._do("receive", lambda: self._client.receive(raw))
            case script.Message(kind=Kind()):
                assert statement.kind is not None
                self._hear(statement.kind, statement.fields, statement.attributes.size)
            case script.Call():
                self._call(statement.name, statement.fields)
            case script.State():
                self._check(statement)
            case script.Happening(name="claim_free"):
                self._do("quiet", lambda: self._client.quiet(statement.numbers[0]))
            case script.Happening(name="silence"):
                pass
            case script.Happening(name="port_busy" | "port_closed" | "port_refuses" | "port_ready" as name):
                self._port.mode = name.removeprefix("port_")
            case script.Advance():
                self._advance(statement.milliseconds / 1000)
            case _:
                raise Failure(statement.place, f"`{statement.text}` means nothing on the guest's side")

    def _hear(self, kind: Kind, fields: Fields, size: int | None = None) -> None:
        self._context.gpadls = {relid: entry.gpadl for relid, entry in self._client.channels.items()}
        for data in compose.channel_message(kind, fields, self._context, size):
            self._do("receive", lambda data=data: self._client.receive(data))  # type: ignore[misc]

    def _call(self, name: str, fields: Fields) -> None:
        relid: Any = fields.get("relid", compose.DEFAULT_RELID)
        vp: Any = fields.get("vp", 0)
        endpoint: Any = fields.get("endpoint", UUID(int=1))
        service: Any = fields.get("service", UUID(int=2))
        silo: Any = fields.get("silo")
        pages: Any = (fields.get("page1", 0), fields.get("page2", 0))
        client = self._client
        calls: dict[str, Callable[[], list[actions.Action]]] = {
            "connect": lambda: client.contact("connect"),
            "request_offers": client.request_offers,
            "open": lambda: self._open(relid, fields),
            "close": lambda: client.close(relid, "close"),
            "retarget": lambda: client.retarget(relid, vp, "retarget"),
            "release": lambda: client.release(relid),
            "drop": lambda: client.drop(relid),
            "unload": lambda: client.unload("unload"),
            "crash": lambda: client.unload("crash", crash=True),
            "suspend": lambda: client.suspend("suspend"),
            "resume": lambda: client.unpause() if client.paused else client.resume("resume"),
            "pause": lambda: client.pause("pause"),
            "unpause": client.unpause,
            "modify_connection": lambda: client.modify_connection(pages[0], pages[1], "modify_connection"),
            "connect_socket": lambda: client.connect_socket(endpoint, service, "connect_socket", silo=silo),
            "lost": lambda: client.lost(LinkLost("the daemon is gone")),
        }
        self._do(name, calls[name])

    def _open(self, relid: int, fields: Fields) -> list[actions.Action]:
        entry = self._client.channels.get(relid)
        vp: Any = fields.get("vp", entry.vp if entry else 0)
        pages: Any = fields.get("pages", compose.RING_PAGES)
        offset: Any = fields.get("offset", compose.RING_SPLIT)
        user: Any = fields.get("user", b"")
        pfns = range(compose.FIRST_PAGE, compose.FIRST_PAGE + pages)
        return self._client.open(relid, "open", pfns=pfns, downstream=offset, target_vp=vp, user_data=user)

    def _check(self, line: script.State) -> None:
        client, want = self._client, line.value
        if line.name == "channel":
            entry = client.channels.get(line.number or 0)
            got = {} if entry is None else seen(entry)
            if entry is None and line.fields.get("state") in ("gone", "unknown"):
                return
            for name, value in line.fields.items():
                alike = name == "state" and entry is not None and value == STATES.get(entry.phase)
                if str(got.get(name)) != str(value) and not alike:
                    raise Failure(line.place, f"expected {name} {value}, got {got.get(name, 'no channel')}")
            return
        counts: dict[str, object] = {
            "channels": len(client.channels),
            "refused": self._refused,
            "open": sum(entry.phase == "open" for entry in client.channels.values()),
            "features": client.features,
            "paused": int(client.paused),
        }
        if line.name in counts:
            if counts[line.name] != want:
                raise Failure(line.place, f"expected {line.name} {want}, got {line.name} {counts[line.name]}")
        elif client.state != CONNECTION.get(line.name, line.name) or want not in (None, client.version):
            raise Failure(
                line.place, f"expected {line.text[1:].strip()}, got {client.state} {client.version:#x}"
            )

    # -- what comes out --------------------------------------------------------------------------------------

    def _do(self, name: str, call: Callable[[], list[actions.Action]]) -> None:
        try:
            done = call()
        except VmbusError as error:
            self._tell("error", op=name, kind=type(error).__name__, text=str(error))
            return
        for action in done:
            self._take_in(action)

    def _take_in(self, action: actions.Action) -> None:
        match action:
            case actions.Post(connection=connection, data=data):
                self._port.post(connection, data)
            case actions.Offered(offer=offer, primary=primary, vp=vp):
                self._tell(
                    "offered",
                    relid=offer.child_relid,
                    interface=offer.if_type,
                    instance=offer.if_instance,
                    subchannel=offer.sub_channel_index,
                    primary=primary,
                    vp=vp,
                )
            case actions.Resumed(was=was, offer=offer):
                self._tell("resumed", relid=offer.child_relid, was=was, instance=offer.if_instance)
            case actions.OffersDelivered():
                self._tell("offers_delivered")
            case actions.Watch(relid=relid):
                if not self._script.options.get("manual-claims"):
                    self._do("quiet", lambda: self._client.quiet(relid))
            case actions.Missing(was=was):
                self._tell("missing", relid=was)
            case actions.Suspended():
                self._tell("suspended")
            case actions.Done(token=token, error=None, relid=relid):
                self._tell("done", op=token, relid=relid)
                if token == "connect":
                    self._do("request_offers", self._client.request_offers)
            case actions.Done(token=token, error=error):
                self._tell("error", op=token, kind=type(error).__name__, text=str(error))
            case actions.Refused(kind=kind):
                self._refused += 1
                self._tell("refused", kind=kind)
            case actions.Opened() | actions.Detach() | actions.Free() | actions.Gone():
                self._tell(type(action).__name__.lower(), relid=action.relid)

    def _deliver(self, connection: int, data: bytes) -> None:
        self._items.append(Item("", {}, data, connection))

    def _undelivered(self, data: bytes, error: VmbusError) -> None:
        self._do("post", lambda: self._client.unposted(data, error))

    def _advance(self, seconds: float) -> None:
        """Time passes; whatever is due on the way happens when it is due."""
        until = self._port.now + seconds
        while True:
            times = (self._port.next_try(), self._client.next_deadline(), until)
            now = min(time for time in times if time is not None)
            if now > until:
                now = until
            self._port.advance(now)
            self._do("tick", lambda now=now: self._client.tick(now))  # type: ignore[misc]
            if now >= until:
                return

    def _tell(self, name: str, **fields: object) -> None:
        self._items.append(Item(name, fields))

    def _rest(self, place: Place, when: str) -> None:
        left = [item for item in self._items if item.name in ("", "error")]
        if left:
            shown = "\n    ".join(map(str, left[:8]))
            raise Failure(place, f"expected nothing more {when}, got\n    {shown}")
        self._items.clear()

    def _next(self, line: Statement, name: str) -> Item:
        """The next item with this name; what was told before it need not be expected."""
        while self._items:
            item = self._items.popleft()
            if item.name == name:
                return item
            if item.name in ("", "error"):
                raise Failure(line.place, f"expected {line.text}, got {item}")
        raise Failure(line.place, f"expected {line.text}, got nothing")

    def _expect_message(self, line: script.Message) -> None:
        item = self._next(line, "")
        if line.raw is not None:
            why = "" if item.data == line.raw else f"hex {item.data.hex()}"
        else:
            assert line.kind is not None
            message = match.decode(item.data, wire.Sender.GUEST)
            why = message if isinstance(message, str) else match.difference(line.kind, line.fields, message)
        why = why or match.wrong_attribute(line.attributes, 0, 0, len(item.data), item.connection)
        if why:
            raise Failure(line.place, f"expected {line.text}, got {item} ({why})")

    def _expect_told(self, line: script.Told) -> None:
        while True:
            item = self._next(line, line.name)
            wrong = [
                name for name, want in line.fields.items() if not _fits(name, want, item.fields.get(name))
            ]
            if not wrong:
                return
            if item.name == "error":
                raise Failure(line.place, f"expected {line.text}, got {item}")


def _fits(name: str, want: object, got: object) -> bool:
    if want is ANYTHING:
        return True
    return str(want) in str(got) if name == "text" else str(want) == str(got)
