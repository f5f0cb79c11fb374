"""Would the scripts notice? Each rule below is broken in a copy of the tree, and some script must fail.

A flip is a piece of the source and what stands in its place instead. Scripts are played on the sans-IO bus
only, in the order of their names, up to the first that fails. An unbroken copy is played first. A piece that
is not in its file exactly once is an error: the source has moved on, and the flip must follow it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("vmbusd", "guest_client", "host_client", "tests")
NOT_COPIED: Final = ("unit", "native", "interleave", "fuzz", "vectors")
"""Folders of tests that no script needs."""
LONGEST: Final = 120.0
"""Seconds for all scripts on one copy; two are usual. A bus that does not come to an end was noticed."""
NOTICED: Final = 3
"""Exit status of a copy in which a script failed; another one says that the copy could not be played."""


class Flip(NamedTuple):
    """One broken rule: `old`, a piece of the file `source` of vmbusd/bus, gives way to `new`."""

    name: str
    rule: str
    source: str
    old: str
    new: str


FLIPS: Final = (
    Flip(
        "version-cap",
        "no version above the cap is accepted (case 004)",
        "negotiation.py",
        " or version > newest:",
        ":",
    ),
    Flip(
        "unknown-features",
        "only features that the host knows are granted (case 007)",
        "negotiation.py",
        "return contact.feature_flags & supported_features(options, trusted=trusted)",
        "return contact.feature_flags",
    ),
    Flip(
        "one-monitor-page",
        "both monitor pages or none (case 015)",
        "negotiation.py",
        "wrong = one_page or named",
        "wrong = named",
    ),
    Flip(
        "message-vp",
        "answers go to the VP that the contact names (case 012)",
        "negotiation.py",
        "vp = named if named < vps else 0",
        "vp = 0",
    ),
    Flip(
        "second-request-offers",
        "offers are requested once (case 033)",
        "guest_messages.py",
        "if self._connection.now.offers_sent:",
        "if False:",
    ),
    Flip(
        "offer-order",
        "offers are listed by interface, order, instance (case 037)",
        "offers.py",
        "released.sort(key=lambda channel: channel.order)",
        "released.reverse()",
    ),
    Flip(
        "confidential-flags",
        "a flag is shown only to a guest that negotiated its feature (case 042)",
        "offering.py",
        "        if not features & feature:",
        "        if False:",
    ),
    Flip(
        "highest-relid",
        "the lowest free relid is given (case 124)",
        "ids.py",
        "bit = free & -free",
        "bit = 1 << (free.bit_length() - 1)",
    ),
    Flip(
        "slot-before-device",
        "the slot is open before the device is asked to open (case 054)",
        "opening.py",
        "        self._outbox.add(OpenSlot(flag, channel.relid, channel.generation))\n"
        "        self.monitors.arm(channel)\n"
        "        self._outbox.show(channel)\n"
        "        self._ask_open(channel, request)\n",
        "        self._ask_open(channel, request)\n"
        "        self._outbox.add(OpenSlot(flag, channel.relid, channel.generation))\n"
        "        self.monitors.arm(channel)\n"
        "        self._outbox.show(channel)\n",
    ),
    Flip(
        "failed-open-slot",
        "an open that failed closes its slot (case 055)",
        "opening.py",
        "        if failed:\n            self.close_slot(channel)\n",
        "",
    ),
    Flip(
        "open-without-ring",
        "the rings of an open are an accepted GPADL (case 066)",
        "gpadls.py",
        "gpadl is None or gpadl.state is not GpadlState.ACCEPTED or gpadl.ring is None:",
        "gpadl is None or gpadl.ring is None:",
    ),
    Flip(
        "stale-opened",
        "an answer to an earlier open counts for nothing (case 071)",
        "opening.py",
        "if channel.state not in _DEVICE_OPENS or message.generation != channel.generation:",
        "if channel.state not in _DEVICE_OPENS:",
    ),
    Flip(
        "same-generation",
        "every open has a new generation (case 071)",
        "ids.py",
        "next_generation(max(self.generations[flag], channel))",
        "max(self.generations[flag], channel, 1)",
    ),
    Flip(
        "same-gpadl-twice",
        "a handle is used once on a channel (case 091)",
        "gpadls.py",
        "            or handle in channel.gpadls\n",
        "",
    ),
    Flip(
        "page-outside",
        "a GPADL names pages of guest memory only (case 089)",
        "gpadls.py",
        "if highest >= self._ram_pages:",
        "if False:",
    ),
    Flip(
        "torndown-too-early",
        "GPADL_TORNDOWN waits for the claim and for the device (case 098)",
        "channels.py",
        "(handle == self.ring and (self.claim != 0 or self.device_open))",
        "False",
    ),
    Flip(
        "torndown-of-a-ghost",
        "GPADL_TORNDOWN waits for the death of a host whose link ended (case 177)",
        "channels.py",
        "return bool(self.ghosts) or (",
        "return False or (",
    ),
    Flip(
        "subchannels-stay",
        "with a primary go its subchannels (case 114)",
        "lifecycle.py",
        "if channel.state is State.CLOSING:\n            for subchannel",
        "if False:\n            for subchannel",
    ),
    Flip(
        "open-after-rescind",
        "a channel that was rescinded is not opened (case 060)",
        "opening.py",
        "if channel.state is not State.CLOSED:\n            channel.step",
        "if channel.state not in (State.CLOSED, State.REVOKED):\n            channel.step",
    ),
    Flip(
        "relid-too-early",
        "a relid waits for the claim of its last open (case 142)",
        "lifecycle.py",
        "        if channel.claim or channel.device_open:\n            return\n",
        "        if channel.device_open:\n            return\n",
    ),
    Flip(
        "failed-retarget",
        "a retarget that the device refuses is taken back (case 144)",
        "targets.py",
        "        if failed:\n            self.set(channel, under_way[1])\n",
        "",
    ),
    Flip(
        "retarget-below-5.3",
        "MODIFYCHANNEL has no answer below 5.3 (case 143)",
        "targets.py",
        "        if self.version >= wire.V5_3 and not unasked:\n            self._respond",
        "        if not unasked:\n            self._respond",
    ),
    Flip(
        "unload-too-early",
        "UNLOAD_RESPONSE waits for every channel (case 158)",
        "connection.py",
        "self._registry.ids.in_use == len(\n            self._lifecycle.kept\n        ):",
        "True:",
    ),
    Flip(
        "reserved-close",
        "CLOSECHANNEL does not close a reserved channel (case 180)",
        "opening.py",
        'if channel.reserved is not None:\n            raise Refusal(Kind.WRONG_STATE, f"CLOSE',
        'if False:\n            raise Refusal(Kind.WRONG_STATE, f"CLOSE',
    ),
    Flip(
        "refusal-below-4.1",
        "a guest below 4.1 is not told of a refused socket (case 189)",
        "sockets.py",
        "if version >= wire.V4_1:",
        "if True:",
    ),
    Flip(
        "seventeen-connects",
        "sixteen connects may be unanswered (case 192)",
        "sockets.py",
        "MAX_REQUESTS: Final = 16",
        "MAX_REQUESTS: Final = 17",
    ),
    Flip(
        "four-seconds",
        "a guest has five seconds to open its socket (case 194)",
        "sockets.py",
        "GUEST_OPENS_IN: Final = 5.0",
        "GUEST_OPENS_IN: Final = 4.0",
    ),
    Flip(
        "pause-ignored",
        "nothing is sent to a guest that paused (case 292)",
        "connection.py",
        "        self._outbox.paused = True\n",
        "",
    ),
    Flip(
        "paused-hears",
        "a paused connection hears only what ends the pause (case 293)",
        "guest_messages.py",
        "if not isinstance(message, _PAUSED_HEARS):",
        "if False:",
    ),
    Flip(
        "unfinished-gpadls",
        "only so many GPADLs may be unfinished (case 310)",
        "gpadls.py",
        " or (is_unfinished and len(self._unfinished) >= self._max_unfinished)",
        "",
    ),
)


def broken(flip: Flip) -> str:
    """The text of the source with the rule broken. Raises ValueError when the piece is not there once."""
    text = (ROOT / "vmbusd" / "bus" / flip.source).read_text()
    if text.count(flip.old) != 1:
        raise ValueError(f"{flip.name}: vmbusd/bus/{flip.source} has its piece {text.count(flip.old)} times")
    return text.replace(flip.old, flip.new)


def noticed(flip: Flip | None) -> str:
    """The first script that fails on a copy with this rule broken, empty if none does; None breaks nothing.

    Raises ValueError when the copy cannot be played at all.
    """
    with tempfile.TemporaryDirectory(prefix="flip-") as folder:
        for name in COPIED:
            left_out = shutil.ignore_patterns(*NOT_COPIED)
            shutil.copytree(ROOT / name, Path(folder, name), ignore=left_out if name == "tests" else None)
        if flip is not None:
            source = Path(folder, "vmbusd", "bus", flip.source)
            source.write_text(broken(flip))
            os.utime(source, (0, 0))  # older than anything compiled that was copied with it
        command = [sys.executable, "-B", "-m", "tests.conformance.flips", "--play"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False, timeout=LONGEST
            )
        except subprocess.TimeoutExpired:
            return f"no end within {LONGEST:.0f} s"
    if done.returncode not in (0, NOTICED):
        raise ValueError(f"{flip.name if flip else 'unbroken'}: cannot be played\n{done.stderr}")
    return done.stdout.strip()


def play() -> int:
    """In a copy: play scripts up to the first that fails, and tell which."""
    from tests.conformance import reader
    from tests.conformance.run import SCRIPTS, play_on_bus, scripts_below

    for path in scripts_below(SCRIPTS):
        try:
            play_on_bus(reader.read(path))
        except Exception:  # noqa: BLE001 - that a broken bus raises is noticed as well
            print(path.relative_to(SCRIPTS))
            return NOTICED
    return 0


def judged(flips: Sequence[Flip]) -> Iterator[tuple[Flip, str]]:
    """Each flip with what noticed it, in their order; as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from zip(flips, pool.map(noticed, flips), strict=True)


def main() -> int:
    """Returns 1 when a flip was missed, 2 when there is nothing to judge by."""
    parser = argparse.ArgumentParser(prog="./dev flips", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--play", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        return play()
    flips = [flip for flip in FLIPS if not arguments.names or flip.name in arguments.names]
    if unknown := set(arguments.names) - {flip.name for flip in FLIPS}:
        parser.error(f"no flip {', '.join(sorted(unknown))}: {', '.join(flip.name for flip in FLIPS)}")
    missed = 0
    try:
        if unbroken := noticed(None):
            print(f"flips: {unbroken} fails although nothing is broken", file=sys.stderr)
            return 2
        for flip, script in judged(flips):
            missed += not script
            print(f"{flip.name:<22} {flip.rule}: {script or 'MISSED'}", flush=True)
    except ValueError as error:
        print(f"flips: {error}", file=sys.stderr)
        return 2
    print(f"{len(flips) - missed} caught, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
