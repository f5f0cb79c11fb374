"""Configuration: what is wrong is named with its file and key, and nothing wrong is taken."""

from pathlib import Path

import pytest

from vmbusd.abi.errors import UsageError
from vmbusd.server.config import Config, PartitionSpec, load, parse_partition


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vmbusd.toml"
    path.write_text(text)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    """Every key is taken as it is written."""
    path = written(
        tmp_path,
        """
        [runtime]
        directory = "/run/x"
        mode = 0o711
        grace = 2.5
        [sockets.guest]
        mode = 0o660
        group = "vmbus"
        [sockets.host]
        group = 12
        [partitions.demo]
        vps = 8
        ram_size = "1G"
        doorbell = "eventfd"
        uids = [1000, 1001]
        [partitions.small]
        """,
    )

    config = load(path)

    assert (config.runtime.directory, config.runtime.mode) == ("/run/x", 0o711)
    assert config.runtime.grace == 2.5
    assert (config.sockets.guest.mode, config.sockets.guest.group) == (0o660, "vmbus")
    assert (config.sockets.host.mode, config.sockets.host.group) == (0o600, 12)
    assert config.partitions["demo"] == PartitionSpec(8, "1G", "eventfd", [1000, 1001])
    assert config.partitions["demo"].ram_bytes() == 1 << 30
    assert config.partitions["small"] == PartitionSpec(4, 64 << 20, "semaphore", None)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    """Nothing said is nothing changed."""
    assert load(written(tmp_path, "")) == Config()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[partitions.a\n", "line 1"),
        ("[partition.a]\n", "unknown field `partition`"),
        ("[partitions.a]\nvp = 3\n", "unknown field `vp` - at `$.partitions"),
        ('[partitions.a]\nvps = "3"\n', "Expected `int`, got `str`"),
        ("[partitions.a]\nvps = true\n", "Expected `int`, got `bool`"),
        ("[partitions.a]\nvps = 0\n", "partitions.a: vps 0: 1 to 64"),
        ("[partitions.a]\nvps = 65\n", "partitions.a: vps 65"),
        ("[partitions.a]\nram_size = 0\n", "partitions.a: ram_size 0: a multiple of 4096"),
        ("[partitions.a]\nram_size = 4097\n", "ram_size 4097"),
        ('[partitions.a]\nram_size = "4Q"\n', "ram_size '4Q'"),
        ('[partitions.a]\nram_size = "-4K"\n', "ram_size '-4K'"),
        ('[partitions.a]\nram_size = "64T"\n', "up to 16 TiB"),
        ('[partitions.a]\ndoorbell = "pipe"\n', "Invalid enum value 'pipe'"),
        ("[partitions.a]\nuids = [-1]\n", "partitions.a: uids: -1 is no user id"),
        ('[partitions."a/b"]\n', "'a/b'"),
        ('[partitions.""]\n', "''"),
        ("[sockets.guest]\nmode = 0o1777\n", "sockets.guest.mode: 0o1777"),
        ("[sockets.door]\n", "unknown field `door`"),
        ("[runtime]\nmode = 0o777\n", "runtime.mode 0o777"),
        ("[runtime]\nmode = 0o600\n", "runtime.mode 0o600"),
        ("[runtime]\ngrace = 0.0\n", "runtime.grace 0: more than 0 and at most 3600 seconds"),
        ("[runtime]\ngrace = nan\n", "runtime.grace nan"),
        ("[runtime]\ngrace = 3601\n", "runtime.grace 3601"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """The file and the key or value stand in the error."""
    path = written(tmp_path, text)

    with pytest.raises(UsageError) as error:
        load(path)

    assert str(error.value).startswith(f"{path}: ")
    assert expected in str(error.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A file that is not UTF-8 is named, not a traceback."""
    path = tmp_path / "vmbusd.toml"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(UsageError, match="utf-8"):
        load(path)


@pytest.mark.parametrize(
    ("text", "name", "vps"), [("a", "a", 4), ("a:1", "a", 1), ("web-1:64", "web-1", 64), ("0:2", "0", 2)]
)
def test_partitions_of_the_command_line(text: str, name: str, vps: int) -> None:
    """NAME or NAME:VPS."""
    found, spec = parse_partition(text)

    assert (found, spec.vps) == (name, vps)


@pytest.mark.parametrize(
    "text", ["", ":4", "a:", "a:x", "a:-1", "a:0", "a:65", "a:1:2", "a b", "A", "-a", "a:٣"]
)
def test_bad_partitions_of_the_command_line(text: str) -> None:
    """Anything else is refused with the word itself in the error."""
    with pytest.raises(UsageError):
        parse_partition(text)
