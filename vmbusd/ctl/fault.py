"""`vmbusctl fault`: faults armed, listed and taken back; which kinds there are is the daemon's to say."""

import argparse
import sys
from typing import Any, Final

from vmbusd.abi.errors import UsageError
from vmbusd.ctl.fault_help import EPILOG
from vmbusd.server.fault_requests import FaultList, FaultRemove, FaultRequest, FaultSpec, to_add

ALL: Final = "all"
_NUMBERS: Final = (
    ("relid", "N", "this channel, and the subchannels of a primary"),
    ("vp", "N", "this VP"),
    ("host", "N", "this host link"),
    ("after", "N", "let the first N occasions pass: an occasion is each time that it could come"),
    ("every", "N", "of the occasions behind those only the first, the one N later, and so on"),
    (
        "times",
        "N",
        "at most N times: on the data path for each VP and each host link by itself. A kill comes once "
        "unless this says more, all else without end",
    ),
    ("delay", "US", "microseconds"),
    ("rate", "N", "spurious bits per second (100)"),
    ("seed", "N", "0 or more: the same one picks the same occasions again, another one others (0)"),
)


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser's `commands`; `common` are options of every command."""
    command = commands.add_parser("fault", help="make something go wrong on purpose, for tests")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "add",
        parents=[common],
        help="arm a fault",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("partition", metavar="PARTITION")
    add.add_argument("kind", metavar="KIND", help="what goes wrong, see below; more in docs/faults.md")
    for name, metavar, purpose in _NUMBERS:
        add.add_argument(f"--{name}", metavar=metavar, type=int, help=purpose)
    add.add_argument(
        "--probability",
        metavar="P",
        type=float,
        help="share of the occasions that have it, 1 is all (default)",
    )
    add.add_argument("--who", choices=("hosts", "guests"), help="only in these processes")
    add.add_argument("--step", metavar="NAME", help="where to kill, see below")
    add.add_argument(
        "--message", metavar="TYPE", dest="messages", action="append", help="e.g. OPENCHANNEL; repeatable"
    )
    show_ = actions.add_parser("list", parents=[common], help="what is armed, and how often it came")
    show_.add_argument("partition", metavar="PARTITION")
    remove = actions.add_parser("remove", parents=[common], help="take back one fault, or all")
    remove.add_argument("partition", metavar="PARTITION")
    remove.add_argument("id", metavar=f"ID|{ALL}")


def request(arguments: argparse.Namespace) -> FaultRequest:
    """What to ask the daemon. Raises UsageError for an id or a probability that is none."""
    if arguments.action == "list":
        return FaultList(arguments.partition)
    if arguments.action == "remove":
        text = arguments.id
        if text != ALL and not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise UsageError(f"fault {text!r}: an id as `vmbusctl fault list` shows it, or {ALL}")
        return FaultRemove(arguments.partition, None if text == ALL else int(text))
    fields = {
        name: value
        for name in FaultSpec.__struct_fields__
        if name != "kind" and (value := getattr(arguments, name)) is not None
    }
    if "messages" in fields:
        fields["messages"] = tuple(fields["messages"])
    return to_add(arguments.partition, FaultSpec(arguments.kind, **fields))


def counted(number: int, thing: str = "fault") -> str:
    """A number of things, as people say it."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def show(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Print an answer for people."""
    name = arguments.partition
    if arguments.action == "add":
        print(f"partition {name}: fault {result['id']} armed")
    elif arguments.action == "remove":
        print(f"partition {name}: {counted(len(result['removed']))} taken back")
    else:
        from rich.console import Console

        from vmbusd.ctl import tables

        tables.show_faults(Console(file=sys.stdout), name, result)
