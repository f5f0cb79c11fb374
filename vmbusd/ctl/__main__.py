"""The command `vmbusctl`: what a daemon knows, partitions to make and end, orders to it and to channels."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vmbusd import __version__
from vmbusd.abi import layout
from vmbusd.abi.errors import VmbusError
from vmbusd.ctl import fault
from vmbusd.ctl.client import AdminClient
from vmbusd.server import config, requests

ORDERS = {
    "retarget": "relid {relid} moved from VP {before} to VP {vp}",
    "rescind": "relid {relid} rescinded",
    "reset": "reset",
    "vp offline": "VP {vp} is offline, VP {live} has its channels",
    "vp online": "VP {vp} is online",
}
"""What is printed when an order is done, with the fields of its result."""


def _add_common(parser: argparse.ArgumentParser, default: Any = argparse.SUPPRESS) -> None:
    """Options that may stand before and after the command: only the first place has defaults."""
    parser.add_argument(
        "--runtime-dir", metavar="DIR", default=default, help="the daemon's runtime directory"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=False if default is None else default,
        help="print the daemon's answer as JSON",
    )


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    _add_common(common)
    parser = argparse.ArgumentParser(prog="vmbusctl", description="Looks after a running vmbusd.")
    _add_common(parser, default=None)
    parser.add_argument("--version", action="version", version=f"vmbusctl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("status", parents=[common], help="the daemon, its partitions, their VPs and links")
    for name, purpose in (
        ("channels", "the channels of a partition, as the bus knows them"),
        ("table", "the channel table of a partition, as its peers see it"),
    ):
        command = commands.add_parser(name, parents=[common], help=purpose)
        command.add_argument("partition", metavar="PARTITION")
    commands.add_parser(
        "reexec", parents=[common], help="run the daemon's program anew in its place; nothing is stopped"
    )
    for name, purpose, numbers in (
        ("retarget", "move a channel's interrupts to another VP", ("relid", "vp")),
        ("rescind", "take a channel from the guest and from its device", ("relid",)),
        ("reset", "end the guest of a partition and close every channel", ()),
    ):
        command = commands.add_parser(name, parents=[common], help=purpose)
        command.add_argument("partition", metavar="PARTITION")
        for number in numbers:
            command.add_argument(number, metavar=number.upper(), type=int)
    vp = commands.add_parser("vp", help="take a VP from the guest, or give it back")
    states = vp.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, purpose in (
        ("offline", "move a VP's channels and bits to others and let its worker go"),
        ("online", "have the guest give a VP a worker again"),
    ):
        command = states.add_parser(name, parents=[common], help=purpose)
        command.add_argument("partition", metavar="PARTITION")
        command.add_argument("vp", metavar="VP", type=int)
    fault.add_parser(commands, common)
    partition = commands.add_parser("partition", help="make or end a partition")
    actions = partition.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", parents=[common], help="make a partition")
    add.add_argument("partition", metavar="NAME[:VPS]")
    add.add_argument("--ram-size", metavar="SIZE", default=str(layout.DEFAULT_RAM_SIZE), help="e.g. 64M")
    add.add_argument("--doorbell", choices=("semaphore", "eventfd"), default="semaphore")
    add.add_argument("--uid", metavar="UID", type=int, action="append", help="who may attach; repeatable")
    remove = actions.add_parser("remove", parents=[common], help="end a partition and all its links")
    remove.add_argument("partition", metavar="NAME")
    return parser


def _request(arguments: argparse.Namespace) -> requests.Request:
    if arguments.command == "status":
        return requests.Status()
    if arguments.command == "channels":
        return requests.Channels(arguments.partition)
    if arguments.command == "table":
        return requests.Table(arguments.partition)
    if arguments.command == "reexec":
        return requests.Reexec()
    if arguments.command == "retarget":
        return requests.Retarget(arguments.partition, arguments.relid, arguments.vp)
    if arguments.command == "rescind":
        return requests.Rescind(arguments.partition, arguments.relid)
    if arguments.command == "reset":
        return requests.Reset(arguments.partition)
    if arguments.command == "vp":
        order = requests.VpOffline if arguments.action == "offline" else requests.VpOnline
        return order(arguments.partition, arguments.vp)
    if arguments.command == "fault":
        return fault.request(arguments)
    if arguments.action == "remove":
        return requests.PartitionRemove(arguments.partition)
    name, spec = config.parse_partition(arguments.partition)
    return requests.PartitionAdd(name, spec.vps, arguments.ram_size, arguments.doorbell, arguments.uid)


def _show(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    if arguments.command == "partition":
        print(f"partition {arguments.partition.partition(':')[0]}: {'made' if result else 'removed'}")
        return
    if arguments.command == "reexec":
        print(f"vmbusd (pid {result['pid']}) runs anew")
        return
    if arguments.command == "fault":
        fault.show(arguments, result)
        return
    order = " ".join(filter(None, (arguments.command, getattr(arguments, "action", None))))
    if order in ORDERS:
        print(f"partition {arguments.partition}: {ORDERS[order].format(**result)}")
        return
    from rich.console import Console

    from vmbusd.ctl import tables

    console = Console()
    shows: dict[str, Callable[[], None]] = {
        "status": lambda: tables.show_status(console, result),
        "channels": lambda: tables.show_channels(console, arguments.partition, result),
        "table": lambda: tables.show_table(console, arguments.partition, result),
    }
    shows[arguments.command]()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        request = _request(arguments)
        with AdminClient(arguments.runtime_dir) as client:
            _show(arguments, client.ask(request))
            sys.stdout.flush()
    except VmbusError as error:
        print(f"vmbusctl: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
