"""The command `vmbusd`: run the daemon, or one of the things that come with it."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from vmbusd import __version__
from vmbusd.abi.errors import VmbusError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vmbusd", description="VMBus without Hyper-V.")
    parser.add_argument("--version", action="version", version=f"vmbusd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="run the daemon", description="Run the daemon until SIGTERM or Ctrl-C."
    )
    run.add_argument("--config", metavar="FILE", type=Path, help="a TOML file; what is given here too wins")
    run.add_argument(
        "--runtime-dir",
        metavar="DIR",
        help="where the sockets are (default: /run/vmbusd or $XDG_RUNTIME_DIR/vmbusd)",
    )
    run.add_argument(
        "--partition",
        metavar="NAME[:VPS]",
        action="append",
        default=[],
        help="make a partition, 4 VPs by default; may be given again",
    )
    run.add_argument(
        "--grace", metavar="SECONDS", type=float, help="how long a link may be away (default: 10)"
    )
    run.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the process that started this one ends"
    )
    commands.add_parser("demo", help="a storm of signals that proves that none is lost", add_help=False)
    commands.add_parser("lab", help="per-CPU lists and the global table side by side", add_help=False)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    import msgspec

    from vmbusd.abi import native
    from vmbusd.server import config, process

    if arguments.exit_with_parent:
        native.exit_with_parent(signal.SIGTERM)

    settings = config.load(arguments.config) if arguments.config else config.Config()
    if arguments.runtime_dir is not None:
        runtime = msgspec.structs.replace(settings.runtime, directory=arguments.runtime_dir)
        settings = msgspec.structs.replace(settings, runtime=runtime)
    if arguments.grace is not None:
        config.check_grace(arguments.grace)
        runtime = msgspec.structs.replace(settings.runtime, grace=arguments.grace)
        settings = msgspec.structs.replace(settings, runtime=runtime)
    named = dict(config.parse_partition(text) for text in arguments.partition)
    settings = msgspec.structs.replace(settings, partitions=settings.partitions | named)
    process.run(settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:
        from vmbusd.demo.run import main as demo

        return demo(words[1:])
    if words[:1] == ["lab"]:
        from vmbusd.lab.run import main as lab

        return lab(words[1:])
    try:
        _run(_parser().parse_args(words))
    except VmbusError as error:
        print(f"vmbusd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
