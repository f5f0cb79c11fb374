"""Makes the first inputs of the corpus out of the golden vectors and a few scripted lives of a channel.

`python -m tests.fuzz.seed` writes corpus/TARGET/NAME; the fuzzer adds to them with `./dev fuzz --grow`.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.run import CORPUS, ROOT
from tests.fuzz.world import GUEST, HOST, VERSIONS
from vmbusd.abi import device_link, link, messages, wire

VECTORS = ROOT / "tests" / "vectors"
NEWEST = VERSIONS.index(wire.V6_0)
DECODER = {
    "NVSP": 0,
    "RNDIS": 1,
    "IC": 2,
    "VSTOR": 3,
    "RING": 4,
    "PIPE": 5,
    "SYNIC": 6,
    "POST": 6,
    "SIGNAL": 6,
}
LINK = 7


def vectors(name: str) -> list[dict[str, object]]:
    """The entries of a file."""
    found: list[dict[str, object]] = json.loads((VECTORS / name).read_text())
    return found


def inputs() -> Iterator[tuple[str, str, bytes]]:
    """(target, name, bytes)."""
    for entry in vectors("control-messages.json"):
        sender = 0 if entry["direction"] == wire.Sender.GUEST.value else 1
        raw = bytes.fromhex(str(entry["hex"]))
        yield "wire", str(entry["name"]), bytes([NEWEST, 0xFF, sender]) + raw
        if entry["message"] == "GPADL_HEADER":
            yield "gpadl", str(entry["name"]), b"\1\4" + raw[20:]
    for file in ("ic-messages.json", "device-messages.json", "ring-packets.json", "synic.json"):
        for entry in vectors(file):
            if "hex" in entry:
                which = DECODER[str(entry["message"]).split("_")[0]]
                raw = bytes.fromhex(str(entry["hex"]))
                head = bytes([which, 3]) if which == DECODER["VSTOR"] else bytes([which])
                if len(raw) < 4096:
                    yield "decoders", str(entry["name"]), head + raw
    yield "decoders", "link-hello", bytes([LINK]) + link.encode(link.Hello(1, 1, 0, 0, "demo"))
    yield "decoders", "link-opened", bytes([LINK]) + device_link.encode(device_link.Opened(1, 2, 0))
    for target, name, data in lives():
        yield target, name, data
        # The same life, saved in the middle, and what is changed in it.
        for number in range(3):
            steps, change = 3 + 2 * number, bytes([7 * number, 3, 200, 0, 1, 1, *range(number, number + 24)])
            yield "saved", f"{name}-{number}", data[:1] + bytes([steps]) + data[1:] + change
    yield from rings()


def rings() -> Iterator[tuple[str, str, bytes]]:
    """Each packet of the vectors alone in a ring, read in every way; what follows it is sound as well."""
    steps = [
        (0, 60, 0, 0),
        (4, 0, 0, 0),
        (1, 0, 8, 8),
        (3, 0, 0, 0),
        (0, 0, 8, 0),
        (4, 0, 0, 0),
        (2, 0, 8, 8),
    ]
    peer = [(5, 0, 0, 0), (6, 1, 0, 7), (7, 9, 0, 0), (0, 0, 2, 0)]
    script = b"".join(map(bytes, steps + peer))
    for entry in vectors("ring-packets.json"):
        raw = bytes.fromhex(str(entry["hex"])) if "hex" in entry else b""
        if raw and 2 * len(raw) < 4096:
            indices = struct.pack("<II", 2 * len(raw), 0)
            yield "ring", str(entry["name"]), indices + bytes([len(steps + peer)]) + script + 2 * raw


def say(cls: type, *numbers: int) -> bytes:
    """A guest message as `World.step` reads it, on connection 1."""
    return bytes([0, GUEST.index(cls), *numbers, 0])


def tell(cls: type, *numbers: int) -> bytes:
    """A message of host 0."""
    return bytes([6, 0, HOST.index(cls), *numbers])


def lives() -> Iterator[tuple[str, str, bytes]]:
    """Lives of a channel, with the options' byte first."""
    offer = tell(device_link.Offer, 1, 1, 2, *bytes(11))
    contact, answer, claim = bytes([11, 9, 0]), bytes([8, 0, 0]), bytes([10])
    memory = say(messages.GpadlHeader, 1, 1, 0, 1, 3, 0) + answer
    opened = say(messages.Open, 1, 1, 1, 0, 2, 0) + answer
    closed = say(messages.Close, 1) + answer + claim
    revoke = tell(device_link.Revoke, 1)
    for option in range(4):
        begin = bytes([option]) + offer + contact + memory + opened
        yield "bus", f"closed-{option}", begin + closed + say(messages.RelidReleased, 1)
        yield "bus", f"revoked-{option}", begin + revoke + say(messages.RelidReleased, 1) + claim
        yield "bus", f"modified-{option}", begin + say(messages.ModifyChannel, 1, 1) + answer + closed
        yield "bus", f"unloaded-{option}", begin + say(messages.Unload) + answer + claim
        yield "bus", f"host-lost-{option}", begin + bytes([12, 1, 12, 2]) + claim
        yield "bus", f"vps-{option}", begin + bytes([13, 0, 13, 1, 13, 0]) + closed
        yield "bus", f"reset-{option}", begin + bytes([15, 7]) + answer + claim + contact


def main() -> None:
    """Write every input."""
    for target, name, data in inputs():
        folder = Path(CORPUS, target)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
