"""What `admin.sock` understands: one JSON object per line each way, for `vmbusctl`, socat and scripts.

A request is {"command": NAME, ...}; an answer {"ok": true, "result": {...}} or {"ok": false, "error":
{"kind": KIND, "text": TEXT}}. Nothing here imports the daemon, so that a client starts fast.
docs/daemon.md is this in prose.
"""

from typing import Any, Final, Literal

import msgspec

from vmbusd.abi import layout
from vmbusd.abi.errors import ProtocolError
from vmbusd.server.fault_requests import FaultRequest

Kind = Literal["bad-request", "unknown-partition", "refused", "resource", "internal"]


class Status(msgspec.Struct, frozen=True, tag="status", tag_field="command", forbid_unknown_fields=True):
    """The daemon and all its partitions."""


class Channels(msgspec.Struct, frozen=True, tag="channels", tag_field="command", forbid_unknown_fields=True):
    """The channels of one partition, as the bus knows them."""

    partition: str


class Table(msgspec.Struct, frozen=True, tag="table", tag_field="command", forbid_unknown_fields=True):
    """The non-empty slots of one partition's channel table, as its peers see them."""

    partition: str


class PartitionAdd(
    msgspec.Struct, frozen=True, tag="partition-add", tag_field="command", forbid_unknown_fields=True
):
    """Make a partition; the fields are those of the configuration file."""

    name: str
    vps: int = layout.DEFAULT_VPS
    ram_size: int | str = layout.DEFAULT_RAM_SIZE
    doorbell: Literal["semaphore", "eventfd"] = "semaphore"
    uids: list[int] | None = None
    max_version: str | None = None
    relid_offset: int = 0
    absolute_order: bool = False
    trusted: bool = False
    guest_pages: bool = True


class PartitionRemove(
    msgspec.Struct, frozen=True, tag="partition-remove", tag_field="command", forbid_unknown_fields=True
):
    """End a partition: its links are told, its objects are removed."""

    name: str


class Reexec(msgspec.Struct, frozen=True, tag="reexec", tag_field="command", forbid_unknown_fields=True):
    """Run the daemon's program anew in its place: nothing is stopped, links resume."""


class Retarget(msgspec.Struct, frozen=True, tag="retarget", tag_field="command", forbid_unknown_fields=True):
    """Move an open channel's interrupts to a VP; answered when its host has acknowledged."""

    partition: str
    relid: int
    vp: int


class Rescind(msgspec.Struct, frozen=True, tag="rescind", tag_field="command", forbid_unknown_fields=True):
    """Take a channel, with its subchannels, from the guest and from its host."""

    partition: str
    relid: int


class Reset(msgspec.Struct, frozen=True, tag="reset", tag_field="command", forbid_unknown_fields=True):
    """End the guest and close every channel; answered when every device has let go."""

    partition: str


class VpOffline(
    msgspec.Struct, frozen=True, tag="vp-offline", tag_field="command", forbid_unknown_fields=True
):
    """Take a VP from the guest; answered when its worker has left and others have its channels and bits."""

    partition: str
    vp: int


class VpOnline(msgspec.Struct, frozen=True, tag="vp-online", tag_field="command", forbid_unknown_fields=True):
    """Give a VP back to the guest; answered when it has a worker again."""

    partition: str
    vp: int


Request = (
    Status
    | Channels
    | Table
    | PartitionAdd
    | PartitionRemove
    | Reexec
    | Retarget
    | Rescind
    | Reset
    | VpOffline
    | VpOnline
    | FaultRequest
)


class Error(msgspec.Struct, frozen=True):
    """Why there is no result."""

    kind: Kind
    text: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer line."""

    ok: bool
    result: dict[str, Any] = {}
    error: Error | None = None


_REQUEST: Final = msgspec.json.Decoder(Request, strict=True)
_ANSWER: Final = msgspec.json.Decoder(Answer)
_ENCODER: Final = msgspec.json.Encoder()


def decode_request(line: bytes) -> Request:
    """The request in a line. Raises ProtocolError saying what is wrong with it."""
    try:
        request: Request = _REQUEST.decode(line)
    except msgspec.DecodeError as error:
        # Covers what is no JSON and, as ValidationError, JSON that is no request.
        raise ProtocolError(str(error)) from error
    return request


def decode_answer(line: bytes) -> Answer:
    """The answer in a line. Raises ProtocolError when it is none."""
    try:
        return _ANSWER.decode(line)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"the daemon's answer: {error}") from error


def encode(message: Request | Answer) -> bytes:
    """One line."""
    return _ENCODER.encode(message) + b"\n"
