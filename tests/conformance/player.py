"""Plays a script of the bus's side against a world and raises `Failure` at the first line that is not met.

Before every input, and at the end, nothing may be left that came out and was not expected. Three things need
not be expected: what the backend does (`B<`), a host's "done, no trouble" (OFFER_RESULT OK and its like), and
what a given (`version`, `open`...) leads to, because the given takes it away itself.
"""

from typing import Any, Final

import msgspec

from tests.conformance import compose, match, script
from tests.conformance.compose import Context
from tests.conformance.devices import Hosts
from tests.conformance.script import ANYTHING, Failure, Fields, Given, Place, Script, Statement
from tests.conformance.vocabulary import CHANNEL, Kind
from tests.conformance.world import CannotPlay, Output, World
from vmbusd.abi import device_link, messages, wire
from vmbusd.abi.messages import SUCCESS

NO_ATTRIBUTES: Final = script.Attributes()
_CONTACT: Final = CHANNEL["INITIATECONTACT"]
_QUIET: Final = (device_link.OfferResult, device_link.SubchannelsEnabled, device_link.SocketsProvided)


def _is_quiet(output: Output) -> bool:
    """May it come without being expected?"""
    if output.who == "B" or isinstance(output.body, device_link.Revoked):
        return True
    return isinstance(output.body, _QUIET) and output.body.status == SUCCESS


class Player:
    """One play of one script."""

    def __init__(self, played: Script, world: World) -> None:
        self._script = played
        self._world = world
        self._hosts = Hosts()
        self._context = Context()
        self._seen = 0
        self._any_order = False
        self._backend_order = 0
        self._latest = 0
        self._contacted = False

    def play(self) -> None:
        """Raises Failure."""
        statements = self._script.statements
        self._version_given = next(
            (s for s in statements if isinstance(s, Given) and s.name == "version"), None
        )
        if self._version_given is not None:
            version = self._version_given.fields["version"]
            assert isinstance(version, int)
            self._context.version = version
        for index, statement in enumerate(statements):
            self._contact_first(index, statement)
            try:
                self._step(statement)
            except CannotPlay as error:
                raise Failure(statement.place, str(error)) from error
        self._rest(statements[-1].place, "at the end of the script")

    # -- givens ----------------------------------------------------------------------------------------------

    def _contact_first(self, index: int, statement: Statement) -> None:
        """A script with `version` is connected when its first statement comes, unless that is contact."""
        given = self._version_given
        early = isinstance(statement, script.Order) or (
            isinstance(statement, Given) and statement.name in ("version", "offer")
        )
        if given is None or self._contacted or early:
            return
        self._contacted = True
        later = [
            other.kind.number
            for other in self._script.statements[index:]
            if isinstance(other, script.Message) and other.who == "G" and other.into and other.kind
        ]
        needs_guest = isinstance(statement, Given) and statement.name in ("gpadl", "open")
        if later[:1] == [14] and not needs_guest:
            return
        fields: Fields = {"vmbus_version_requested": given.fields["version"]}
        if "features" in given.fields:
            fields["feature_flags"] = given.fields["features"]
        self._send_guest(_CONTACT, fields)
        self._take(given, CHANNEL["VERSIONRESPONSE"], {"version_supported": 1, "connection_state": 0})
        if later[:1] != [3] or needs_guest:
            self._send_guest(CHANNEL["REQUESTOFFERS"], {})
            self._drain_guest(given)

    def _drain_guest(self, given: Given) -> None:
        self._settle()
        for output in self._to("G", 0):
            self._world.outputs.remove(output)

    def _given(self, given: Given) -> None:
        if given.name == "version":
            return
        self._rest(given.place, f"before `{given.name}`")
        if given.name in ("offer", "revoke"):
            assert given.kind is not None
            self._send_host(given, given.host, given.kind, given.fields)
            self._settle()
            if given.name == "offer" and self._is_listed():
                self._take(given, CHANNEL["OFFERCHANNEL"], {})
        elif given.name == "gpadl":
            self._gpadl(given, given.fields)
        else:
            self._open(given)

    def _is_listed(self) -> bool:
        return any(True for _ in self._to("G", 0))

    def _gpadl(self, given: Given, fields: Fields) -> None:
        kind = CHANNEL["GPADL"]
        relid = fields.get("child_relid", compose.DEFAULT_RELID)
        self._send_guest(kind, fields)
        host, _ = self._take_host(given, device_link.Gpadl)
        self._answer(given, host, SUCCESS, {})
        self._take(given, CHANNEL["GPADLCREATED"], {"child_relid": relid, "creation_status": 0})

    def _open(self, given: Given) -> None:
        relid = given.fields.get("child_relid", compose.DEFAULT_RELID)
        if "ringbuffer_gpadlhandle" not in given.fields:
            self._gpadl(given, {"child_relid": relid})
        self._send_guest(CHANNEL["OPENCHANNEL"], given.fields)
        host, _ = self._take_host(given, device_link.Open)
        self._answer(given, host, SUCCESS, {})
        self._take(given, CHANNEL["OPENRESULT"], {"child_relid": relid, "status": 0})

    # -- statements ------------------------------------------------------------------------------------------

    def _step(self, statement: Statement) -> None:
        match statement:
            case Given():
                self._given(statement)
            case script.Order():
                self._any_order = statement.any
            case script.Message(into=True):
                self._rest(statement.place, f"before `{statement.text}`")
                self._say(statement)
            case script.Message():
                self._expect(statement)
            case script.Answer():
                self._rest(statement.place, f"before `{statement.text}`")
                self._answer(
                    statement, statement.host, statement.status, statement.fields, statement.question
                )
            case script.Advance():
                self._rest(statement.place, f"before `{statement.text}`")
                self._world.advance(statement.milliseconds)
            case script.State():
                self._rest(statement.place, f"before `{statement.text}`")
                self._check(statement)
            case script.Happening():
                self._rest(statement.place, f"before `{statement.text}`")
                if statement.name != "silence":
                    self._world.happen(statement.name, statement.numbers)

    def _say(self, line: script.Message) -> None:
        if line.who == "G":
            if line.raw is not None:
                self._world.guest(line.raw, line.attributes)
            else:
                assert line.kind is not None
                self._send_guest(line.kind, line.fields, line.attributes)
        elif line.kind is None:
            raise Failure(line.place, "raw bytes are the guest's: a host's packets are structs")
        else:
            self._send_host(line, line.host, line.kind, line.fields)

    def _send_guest(
        self,
        kind: Kind,
        fields: Fields,
        attributes: script.Attributes = NO_ATTRIBUTES,
    ) -> None:
        asked = fields.get("vmbus_version_requested")
        if kind.number == 14 and isinstance(asked, int):
            self._context.version = asked
        for data in compose.channel_message(kind, fields, self._context, attributes.size):
            self._world.guest(data, attributes)
        if kind.number == 5:
            relid = fields.get("child_relid", compose.DEFAULT_RELID)
            self._hosts.open_ids[relid] = fields.get("openid", relid)

    def _send_host(self, line: Statement, host: int, kind: Kind, fields: Fields) -> None:
        is_offer = kind.struct is device_link.Offer
        defaults = self._hosts.new_offer(fields) if is_offer else self._hosts.defaults(host, fields)
        message = compose.device_message(kind, fields, defaults)
        self._hosts.said(host, message)
        if is_offer and "relid" in fields:
            self._hosts.offers[-1].wanted = (int(str(fields["relid"])), line.place)
        self._world.host(host, message)

    def _answer(self, line: Statement, host: int, status: int, fields: Fields, question: str = "") -> None:
        self._settle()
        message = self._hosts.answer(host, status, fields, question)
        if message is None:
            raise Failure(line.place, "nothing was asked that `done` could answer")
        self._hosts.said(host, message)
        self._world.host(host, message)

    def _check(self, line: script.State) -> None:
        name, want = line.name, line.value
        if name == "channel":
            self._check_channel(line)
            return
        if name in ("connected", "connecting", "disconnected", "disconnecting"):
            connection: Any = self._world.state("connection", None)
            state, version = connection
            if state != name or want not in (None, version):
                asked = f"{name} {_version(want)}" if isinstance(want, int) else name
                raise Failure(line.place, f"expected {asked}, got {state} {_version(version)}")
            return
        got = self._world.state(name, line.number)
        if str(got) != str(want):
            raise Failure(line.place, f"expected {name} {want}, got {name} {got}")

    def _check_channel(self, line: script.State) -> None:
        got = self._world.state("channel", line.number)
        if got is None:
            if line.fields.get("state") in ("gone", "unknown"):
                return
            raise Failure(line.place, f"expected channel {line.number}, got none with this relid")
        assert isinstance(got, dict)
        for name, want in line.fields.items():
            field = "target_vp" if name == "vp" else name
            if got.get(field) != want and str(got.get(field)) != str(want):
                raise Failure(
                    line.place,
                    f"expected channel {line.number} with {name}={want}, got {name}={got.get(field)}",
                )

    # -- outputs ---------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        self._world.settle()
        self._notice()

    def _notice(self) -> None:
        """Learn from everything that came out since the last look."""
        for output in self._world.outputs:
            if output.order <= self._seen:
                continue
            self._seen = output.order
            if output.who == "H":
                assert isinstance(output.body, msgspec.Struct)
                self._hosts.heard(output.host, output.body)
            elif output.who == "G":
                message = self._decoded(output)
                if isinstance(message, messages.Offer):
                    self._heard_offer(message)
                elif isinstance(message, messages.VersionResponse2 | messages.VersionResponse3):
                    self._context.features = message.supported_features
                elif isinstance(message, messages.VersionResponse):
                    self._context.features = 0

    def _heard_offer(self, message: messages.Offer) -> None:
        self._hosts.guest_heard(message)
        for offer in self._hosts.offers:
            if offer.relid == message.child_relid and offer.wanted:
                relid, place = offer.wanted
                if relid != message.child_relid:
                    raise Failure(place, f"expected relid {relid} for this offer, got {message.child_relid}")

    @staticmethod
    def _decoded(output: Output) -> msgspec.Struct | str:
        assert isinstance(output.body, bytes)
        return match.decode(output.body, wire.Sender.HOST)

    def _to(self, who: str, host: int) -> list[Output]:
        return [output for output in self._world.outputs if (output.who, output.host) == (who, host)]

    def _show(self, output: Output) -> str:
        head = {"G": "G<", "B": "B<"}.get(output.who, f"H{output.host or ''}<")
        if output.who == "G":
            message = self._decoded(output)
            assert isinstance(output.body, bytes)
            text = (
                f"hex {output.body.hex()} ({message})" if isinstance(message, str) else match.shown(message)
            )
            return f"{head} {text}"
        assert isinstance(output.body, msgspec.Struct)
        return f"{head} {match.shown(output.body, self._hosts.relid_of(output.host))}"

    def _rest(self, place: Place, when: str) -> None:
        """Nothing may be left that was not expected."""
        self._settle()
        left = [output for output in self._world.outputs if not _is_quiet(output)]
        if left:
            shown = "\n    ".join(self._show(output) for output in left[:8])
            raise Failure(place, f"expected nothing more {when}, got\n    {shown}")
        self._world.outputs.clear()

    def _expect(self, line: script.Message) -> None:
        why = ""
        while True:
            self._notice()
            found, why = self._find(line)
            if found is not None:
                self._consume(line, found)
                return
            if why and not self._any_order:
                break
            if not self._world.wait(line.who, line.host):
                break
        raise Failure(line.place, f"expected {line.text}, got {why or 'nothing'}")

    def _find(self, line: script.Message) -> tuple[Output | None, str]:
        """The output that the line means, or what is wrong with the one that is there instead."""
        first = ""
        for output in self._to(line.who, line.host):
            why = self._difference(line, output)
            if not why:
                return output, ""
            if _is_quiet(output):
                continue
            first = first or f"{self._show(output)}" + ("" if why == "another message" else f" ({why})")
            if not self._any_order:
                break
        return None, first

    def _difference(self, line: script.Message, output: Output) -> str:
        body = output.body
        if output.who == "G":
            assert isinstance(body, bytes)
            wrong = match.wrong_attribute(line.attributes, output.vp, output.sint, len(body))
            if line.raw is not None:
                return wrong or ("" if body == line.raw else "other bytes")
            message = self._decoded(output)
            if isinstance(message, str):
                return message
            assert line.kind is not None
            return match.difference(line.kind, line.fields, message) or wrong
        assert isinstance(body, msgspec.Struct)
        assert line.kind is not None
        fields = dict(line.fields)
        if "openid" in fields and isinstance(body, device_link.Open):
            asked = self._hosts.open_ids.get(body.relid)
            if fields.pop("openid") not in (ANYTHING, asked):
                return f"the guest's open id is {asked}"
        return match.difference(line.kind, fields, body, self._hosts.relid_of(output.host))

    def _consume(self, line: script.Message, output: Output) -> None:
        if output.who == "B" and output.order < self._latest:
            raise Failure(line.place, f"{self._show(output)} came before what is expected before it")
        if output.order < self._backend_order:
            raise Failure(line.place, f"{self._show(output)} came before the B< that is expected before it")
        if output.who == "B":
            self._backend_order = output.order
        self._latest = max(self._latest, output.order)
        self._world.outputs.remove(output)

    def _take(self, given: Given, kind: Kind, fields: Fields) -> None:
        """A message that a given leads to."""
        self._expect(script.Message(given.place, kind.name, "G", 0, False, kind, fields))

    def _take_host(self, given: Given, form: type[msgspec.Struct]) -> tuple[int, msgspec.Struct]:
        self._settle()
        for output in self._world.outputs:
            if output.who == "H" and isinstance(output.body, form):
                self._world.outputs.remove(output)
                return output.host, output.body
        raise Failure(given.place, f"`{given.text}` did not reach its device")


def _version(version: object) -> str:
    return f"{version >> 16}.{version & 0xFFFF}" if isinstance(version, int) and version else ""
