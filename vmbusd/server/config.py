"""What the daemon is told to be: a TOML file, the command line, and the specification of one partition.

Strict: an unknown key, a value of the wrong type or out of range is an error that names the file and the key.
"""

import re
import tomllib
from pathlib import Path
from typing import Final, Literal

import msgspec

from vmbusd.abi import layout
from vmbusd.abi.attach import check_name
from vmbusd.abi.errors import UsageError
from vmbusd.bus.options import VERSIONS, BusOptions
from vmbusd.server import limits

_SIZE: Final = re.compile(r"([1-9][0-9]*)([KMGT]?)")
_UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
MAX_RAM: Final = 1 << 44
"""Bytes of guest memory: 16 TiB of address space, sparse; far above any machine this runs on."""

_VERSIONS: Final = {f"{version >> 16}.{version & 0xFFFF}": version for version in VERSIONS}

Doorbell = Literal["semaphore", "eventfd"]


class PartitionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One partition: `vps` virtual processors, `ram_size` of guest memory (bytes, or text such as "64M"), the
    kind of its doorbells, and the uids that may attach besides root and the daemon's own (None: whoever may
    connect to the socket).

    What the guest finds: `max_version` such as "5.3", the newest protocol version accepted (None: all);
    `relid_offset`, how many of the lowest relids are never used; `absolute_order`, offers are listed by their
    order before anything else; `trusted`, messages of the guest count as trusted, so that confidential
    channels may be negotiated; `guest_pages`, the daemon may use pages that the guest names: without it
    there is no legacy interrupt page and no monitored channel."""

    vps: int = layout.DEFAULT_VPS
    ram_size: int | str = layout.DEFAULT_RAM_SIZE
    doorbell: Doorbell = "semaphore"
    uids: list[int] | None = None
    max_version: str | None = None
    relid_offset: int = 0
    absolute_order: bool = False
    trusted: bool = False
    guest_pages: bool = True

    def ram_bytes(self) -> int:
        """Guest memory in bytes. Raises UsageError for text that is no size."""
        if isinstance(self.ram_size, int):
            return self.ram_size
        match = _SIZE.fullmatch(self.ram_size)
        if match is None:
            raise UsageError(f"ram_size {self.ram_size!r}: a number of bytes, or one with K, M, G or T")
        return int(match[1]) << _UNITS[match[2]]

    def bus_options(self) -> BusOptions:
        """What the partition's bus is told. Raises UsageError for a version that does not exist."""
        newest = VERSIONS[-1] if self.max_version is None else _VERSIONS.get(self.max_version)
        if newest is None:
            raise UsageError(f"max_version {self.max_version!r}: one of {', '.join(_VERSIONS)}")
        options = BusOptions(
            max_version=newest,
            relid_offset=self.relid_offset,
            absolute_order=self.absolute_order,
            guest_pages=self.guest_pages,
        )
        options.check()
        return options

    def check(self) -> None:
        """Raises UsageError naming the value that is out of range."""
        self.bus_options()
        if not 1 <= self.vps <= layout.MAX_VPS:
            raise UsageError(f"vps {self.vps}: 1 to {layout.MAX_VPS} virtual processors")
        size = self.ram_bytes()
        if not layout.PAGE <= size <= MAX_RAM or size % layout.PAGE:
            raise UsageError(
                f"ram_size {self.ram_size}: a multiple of {layout.PAGE} bytes up to {MAX_RAM >> 40} TiB"
            )
        for uid in self.uids or ():
            if not 0 <= uid < 0xFFFFFFFF:
                raise UsageError(f"uids: {uid} is no user id")


class SocketSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may connect to one socket: its permission bits and, if given, its group (name or gid)."""

    mode: int = 0o600
    group: str | int | None = None


class SocketsSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The three sockets."""

    guest: SocketSpec = SocketSpec()
    host: SocketSpec = SocketSpec()
    admin: SocketSpec = SocketSpec()


class RuntimeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The runtime directory: its path and its permission bits (default: 0700 when the daemon makes it); and
    `grace`, the seconds that a link may be away before it is given up."""

    directory: str | None = None
    mode: int | None = None
    grace: float = limits.GRACE


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration."""

    runtime: RuntimeSpec = RuntimeSpec()
    sockets: SocketsSpec = SocketsSpec()
    partitions: dict[str, PartitionSpec] = {}


def load(path: Path) -> Config:
    """Read a configuration file. Raises UsageError naming the file and the key that is wrong."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    try:
        config = msgspec.convert(data, Config, strict=True)
        _check(config)
    except (msgspec.ValidationError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from error
    return config


def _check(config: Config) -> None:
    for name, spec in config.partitions.items():
        check_name(name)
        try:
            spec.check()
        except UsageError as error:
            raise UsageError(f"partitions.{name}: {error}") from error
    for name in ("guest", "host", "admin"):
        mode = getattr(config.sockets, name).mode
        if not 0 <= mode <= 0o777:
            raise UsageError(f"sockets.{name}.mode: {mode:#o} are no permission bits")
    if config.runtime.mode is not None and (
        config.runtime.mode & ~0o755 or config.runtime.mode & 0o700 != 0o700
    ):
        raise UsageError(f"runtime.mode {config.runtime.mode:#o}: 0o700 to 0o755, nobody else may write")
    try:
        check_grace(config.runtime.grace)
    except UsageError as error:
        raise UsageError(f"runtime.{error}") from error


def check_grace(seconds: float) -> None:
    """Raises UsageError for a grace time that nobody can wait for."""
    if not 0 < seconds <= limits.MAX_GRACE:
        raise UsageError(f"grace {seconds:g}: more than 0 and at most {limits.MAX_GRACE:g} seconds")


def parse_partition(text: str) -> tuple[str, PartitionSpec]:
    """NAME[:VPS] of the command line. Raises UsageError saying what is wrong with it."""
    name, colon, vps = text.partition(":")
    check_name(name)
    if colon and not (vps.isascii() and vps.isdigit() and len(vps) <= 4):
        raise UsageError(f"partition {text!r}: {vps!r} is no number of VPs")
    spec = PartitionSpec(vps=int(vps)) if colon else PartitionSpec()
    try:
        spec.check()
    except UsageError as error:
        raise UsageError(f"partition {text!r}: {error}") from error
    return name, spec
