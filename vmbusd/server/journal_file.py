"""The bytes of a journal and of a snapshot, and what must be right with them before they are believed.

Both begin with a head: magic, version, length and checksum of what follows, then who the partition is
(`Identity`, msgpack) and a number. All integers are little-endian.

    head      8 magic | u32 version | u32 length of rest | u32 CRC-32 of rest | u32 0 | rest, padded to 8
    rest      msgpack [Identity, number, size of the file]
    record    u32 length of body | u32 CRC-32 of number and body | u64 number | body, padded to 8

A record whose first 8 bytes are zero is the end: they are written last, with one store, so a record that a
kill cut short has never been there. Anything else that is wrong, a checksum, a number out of order, a size
that is not the file's, is damage: the file is refused as a whole, with a text that says what is lost.
"""

import struct
from typing import Final
from zlib import crc32

import msgspec

from vmbusd.abi.errors import VmbusError

JOURNAL_MAGIC: Final = b"VMBJRNL\n"
SNAPSHOT_MAGIC: Final = b"VMBSNAP\n"
VERSION: Final = 2
"""Of heads, records, inputs and states together; a daemon of another version begins anew."""
HEAD: Final = struct.Struct("<8sIIII")
RECORD: Final = struct.Struct("<IIQ")
WORD: Final = 8
MARGIN: Final = 256 << 10
"""Room that is left for one more input, or a snapshot is due: the largest packet of a host is 128 KiB, and
what one input leads to at once is a claim seen free for each of 2047 channels, 40 bytes each."""


class DamagedJournal(VmbusError):
    """Files that cannot be believed; the text says which, why, and what is lost."""


class Identity(msgspec.Struct, frozen=True):
    """What a state belongs to: another machine's, boot's, partition's or layout's is not ours.

    `boot`: the kernel's boot id; `instance`: 12 hex digits in the objects' names; `spec`: how the partition
    was asked for, as JSON.
    """

    abi_version: int
    boot: str
    instance: str
    partition: str
    vps: int
    ram_size: int
    spec: bytes

    def differs(self, other: "Identity") -> str:
        """The first field in which two differ, for a message."""
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} {mine!r}, not {theirs!r}"
        return "nothing"


class _Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    identity: Identity
    number: int
    size: int


_ENCODE: Final = msgspec.msgpack.Encoder()
_DECODE: Final = msgspec.msgpack.Decoder(_Head, strict=True)


def first_word(number: int, body: bytes) -> int:
    """The 8 bytes that make a record be there; never 0, because a body is never empty."""
    return crc32(body, crc32(number.to_bytes(8, "little"))) << 32 | len(body)


def encode_journal_header(identity: Identity, follows: int, size: int) -> bytes:
    """What stands before the first record of a journal file of `size` bytes."""
    return _head(JOURNAL_MAGIC, _Head(identity, follows, size))


def encode_snapshot(identity: Identity, number: int, state: bytes) -> bytes:
    """A whole snapshot file."""
    # The record has its own number and checksum; its length and the head's size must agree with the file's.
    record = RECORD.pack(len(state), first_word(number, state) >> 32, number) + state
    head = _head(SNAPSHOT_MAGIC, _Head(identity, number, len(record)))
    return head + record


def _head(magic: bytes, content: _Head) -> bytes:
    rest = _ENCODE.encode(content)
    padding = bytes(-len(rest) % 8)
    return HEAD.pack(magic, VERSION, len(rest), crc32(rest), 0) + rest + padding


def _read_head(name: str, magic: bytes, content: bytes) -> tuple[_Head, int]:
    if len(content) < HEAD.size:
        raise DamagedJournal(f"{name}: {len(content)} bytes are no head: everything in it is lost")
    found, version, length, checksum, zero = HEAD.unpack_from(content)
    if found != magic:
        raise DamagedJournal(f"{name}: begins with {found!r}, not {magic!r}: everything in it is lost")
    if version != VERSION:
        raise DamagedJournal(
            f"{name}: has version {version}, this vmbusd reads {VERSION}: everything in it is lost"
        )
    rest = content[HEAD.size : HEAD.size + length]
    begin = HEAD.size + length + -length % 8
    if zero or len(rest) < length or crc32(rest) != checksum or any(content[HEAD.size + length : begin]):
        raise DamagedJournal(f"{name}: its head is damaged: everything in it is lost")
    try:
        return _DECODE.decode(rest), begin
    except msgspec.DecodeError as error:
        raise DamagedJournal(f"{name}: its head: {error}") from error


def decode_snapshot(name: str, content: bytes) -> tuple[Identity, int, bytes]:
    """(identity, number, state) of a snapshot file. Raises DamagedJournal."""
    head, at = _read_head(name, SNAPSHOT_MAGIC, content)
    lost = f"the state after input {head.number} is lost"
    if len(content) - at != head.size or head.size < RECORD.size:
        raise DamagedJournal(f"{name}: {len(content) - at} bytes after its head, not {head.size}: {lost}")
    length, checksum, number = RECORD.unpack_from(content, at)
    state = content[at + RECORD.size :]
    if length != len(state) or number != head.number or first_word(number, state) >> 32 != checksum:
        raise DamagedJournal(f"{name}: its checksum is wrong: {lost}")
    return head.identity, number, state


def decode_journal(name: str, content: bytes) -> tuple[Identity, int, list[bytes]]:
    """(identity, number of the snapshot it follows, bodies) of a journal file. Raises DamagedJournal."""
    head, at = _read_head(name, JOURNAL_MAGIC, content)
    number = head.number
    if len(content) != head.size:
        raise DamagedJournal(
            f"{name}: has {len(content)} bytes, not {head.size}: inputs after {number} are lost"
        )
    bodies: list[bytes] = []
    while True:
        lost = f"{name}: damaged at byte {at}: inputs from {number + 1} on are lost"
        if at + WORD > len(content):
            raise DamagedJournal(lost)
        if not any(content[at : at + WORD]):
            return head.identity, head.number, bodies
        if at + RECORD.size > len(content):
            raise DamagedJournal(lost)
        length, checksum, found = RECORD.unpack_from(content, at)
        body = content[at + RECORD.size : at + RECORD.size + length]
        number += 1
        if not length or len(body) < length or found != number or first_word(number, body) >> 32 != checksum:
            raise DamagedJournal(lost)
        bodies.append(body)
        at += RECORD.size + length
        if any(content[at : at + -at % 8]):
            raise DamagedJournal(lost)
        at += -at % 8
