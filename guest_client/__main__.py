"""The command vmbus-guest: run drivers, named MODULE:CLASS, as the guest of a partition."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Final

from guest_client import driver as drivers
from guest_client.guest import Guest
from vmbusd import __version__
from vmbusd.abi.errors import VmbusError

INTERRUPTED: Final = 130
"""What shells call a command that ended by Ctrl-C."""


def _cpus(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write CPU numbers with commas, like 0,1") from None


def _words(text: str) -> list[str]:
    return text.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vmbus-guest", description="a guest of a vmbusd partition")
    parser.add_argument("--version", action="version", version=f"vmbus-guest {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run drivers until Ctrl-C or SIGTERM")
    run.add_argument("drivers", nargs="+", metavar="MODULE:CLASS[=CONFIG]", help="the drivers to register")
    run.add_argument("--partition", required=True, metavar="NAME")
    run.add_argument("--runtime-dir", metavar="DIR", help="the daemon's runtime directory")
    run.add_argument("--vps", type=int, metavar="N", help="how many VPs to serve (default: all)")
    run.add_argument("--workers", choices=["thread", "process"], default="thread", help="what plays a VP")
    run.add_argument("--cpus", type=_cpus, metavar="0,1", help="pin VP i to the i-th of these CPUs")
    run.add_argument(
        "--versions", type=_words, metavar="5.3,4.0", help="what is asked (default: what Linux asks)"
    )
    run.add_argument("--minimum-version", metavar="5.2", help="the oldest version to put up with")
    run.add_argument("--relook", action="store_true", help="look at the bits every second and count rescues")
    run.add_argument(
        "--spin", type=float, default=0.0, metavar="SECONDS", help="look this long before sleeping"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after an orderly end, 1 for an error, 2 for bad arguments."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # A console script has its own folder here, a user's drivers lie in theirs.
    sys.path.insert(0, "")
    try:
        with Guest.attach(
            options.partition,
            runtime_dir=options.runtime_dir,
            versions=options.versions,
            minimum_version=options.minimum_version,
        ) as guest:
            signal.signal(signal.SIGTERM, lambda *_: guest.stop())
            for name in options.drivers:
                guest.register(drivers.make(drivers.parse_name(name)))
            guest.run(options.vps, options.workers, options.cpus, options.relook, options.spin)
    except VmbusError as error:
        print(f"vmbus-guest: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
