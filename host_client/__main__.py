"""`vmbus-host run MODULE:CLASS ...`: offer devices by name and serve them until the daemon ends or Ctrl-C."""

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Final
from uuid import UUID

from host_client.device import Device
from host_client.host import Host
from vmbusd import __version__
from vmbusd.abi.errors import UsageError, VmbusError

EXIT_ERROR: Final = 1
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT


def load(name: str) -> Device:
    """An instance of the device class `MODULE:CLASS`; the current directory is searched too.

    Raises UsageError when there is no such module or class, or it is no device.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UsageError(f"{name!r}: name a device as MODULE:CLASS")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        # A module that the device itself misses is its author's error and keeps its traceback.
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        raise UsageError(f"{name}: no module named {error.name}") from None
    if not (isinstance(found, type) and issubclass(found, Device)):
        raise UsageError(f"{name}: {attribute} is no subclass of host_client.Device")
    return found()


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no UUID") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vmbus-host", description="Devices for a partition of vmbusd.")
    parser.add_argument("--version", action="version", version=f"vmbus-host {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="offer devices and serve them until Ctrl-C")
    run.add_argument("devices", nargs="+", metavar="MODULE:CLASS", help="a subclass of host_client.Device")
    run.add_argument("--partition", required=True, metavar="NAME")
    run.add_argument("--runtime-dir", metavar="DIR", help="where the daemon's sockets are")
    run.add_argument(
        "--instance",
        type=_uuid,
        metavar="UUID",
        help="instance GUID of the only device; made up when not given",
    )
    return parser


def _serve(arguments: argparse.Namespace) -> None:
    if arguments.instance is not None and len(arguments.devices) > 1:
        raise UsageError("--instance names one device, and there are several")
    devices = [load(name) for name in arguments.devices]
    with Host.connect(arguments.partition, runtime_dir=arguments.runtime_dir) as host:
        for device in devices:
            offer = host.offer(device, arguments.instance)
            logging.info(
                "offered %s %s as instance %s", type(device).__name__, device.interface, offer.instance
            )
        _stop_on_signals(host)
        host.run()


def _stop_on_signals(host: Host) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        # A second one does not wait for a device that will not return.
        signal.signal(number, signal.default_int_handler)
        host.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    sys.path.insert(0, os.getcwd())
    try:
        _serve(arguments)
    except VmbusError as error:
        print(f"vmbus-host: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
