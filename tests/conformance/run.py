"""`./dev conformance [DIR]`: every script below a folder on the sans-IO bus, then live; then the coverage."""

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import Final

from tests.conformance import coverage, reader
from tests.conformance.bus_world import BusWorld
from tests.conformance.guest_player import GuestPlayer
from tests.conformance.live_world import Daemons, LiveWorld, why_not_live
from tests.conformance.player import Player
from tests.conformance.script import Failure, Script, Wrong

SCRIPTS: Final = Path(__file__).resolve().parent / "scripts"
NO_SCRIPTS: Final = {".md", ".py", ".pyc", ".json", ".toml"}
"""Files that may stand beside scripts; every other file is one."""


def scripts_below(folder: Path) -> list[Path]:
    """Every script below a folder, in the order of their names; a file is itself."""
    if folder.is_file():
        return [folder]
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in files
        if path.suffix.lower() not in NO_SCRIPTS
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        and path.stem.upper() != "README"
    )


def play_on_bus(played: Script) -> None:
    """Play a script without a process: on the sans-IO bus, or on a guest's client. Raises Failure."""
    if played.side == "guest":
        GuestPlayer(played).play()
        return
    with BusWorld(played) as world:
        Player(played, world).play()


def play_live(played: Script, daemons: Daemons) -> None:
    """Play a script against a daemon, in a partition of its own. Raises Failure."""
    with LiveWorld(played, daemons) as world:
        Player(played, world).play()


def main() -> int:
    """Returns 1 when something failed, 2 when there is nothing to play."""
    parser = argparse.ArgumentParser(prog="./dev conformance", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=SCRIPTS, help="default: the tree's own scripts"
    )
    parser.add_argument("--bus", action="store_true", help="do not play against a daemon")
    arguments = parser.parse_args()
    paths = scripts_below(arguments.folder)
    if not paths:
        print(f"conformance: no scripts in {arguments.folder}", file=sys.stderr)
        return 2
    good: list[Script] = []
    failures: list[str] = []
    begun = time.monotonic()
    for path in paths:
        try:
            played = reader.read(path)
            good.append(played)
            if played.only != "live":
                play_on_bus(played)
        except (Wrong, Failure) as error:
            failures.append(f"{error}")
            print(f"FAILED {error}")
        except Exception:  # noqa: BLE001 - that the machine under test raises is itself the finding
            failures.append(f"{path}: raised")
            print(f"FAILED {path}: raised\n{traceback.format_exc()}")
    on_bus = sum(played.only != "live" for played in good) + len(paths) - len(good)
    print(f"bus and client: {on_bus} scripts, {len(failures)} failed, {time.monotonic() - begun:.1f} s")
    live = [] if arguments.bus else [played for played in good if not why_not_live(played)]
    begun, before = time.monotonic(), len(failures)
    if live:
        with Daemons() as daemons:
            for played in live:
                try:
                    play_live(played, daemons)
                except Failure as error:
                    failures.append(f"{error}")
                    print(f"FAILED live {error}")
    print(
        f"live daemon: {len(live)} scripts, {len(failures) - before} failed, {time.monotonic() - begun:.1f} s"
    )
    tree = (
        []
        if arguments.folder.resolve() == SCRIPTS
        else [reader.read(path) for path in scripts_below(SCRIPTS)]
    )
    print(coverage.report([*good, *tree]))
    total = on_bus + len(live)
    print(f"{total - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
