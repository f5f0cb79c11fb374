"""The answers of the daemon as tables for people; imported only when somebody wants one."""

from typing import Any

from rich.console import Console
from rich.table import Table

from vmbusd.ctl.fault import counted


def _print(console: Console, title: str, columns: list[str], rows: list[list[object]]) -> None:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console.print(table)


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):g} MiB"


def show_status(console: Console, result: dict[str, Any]) -> None:
    """The daemon, then one table per partition with its VPs."""
    daemon = result["daemon"]
    console.print(
        f"vmbusd {daemon['version']}, pid {daemon['pid']}, instance {daemon['instance']}, "
        f"up {daemon['uptime']:.0f} s, {daemon['links']} links, {daemon['runtime_dir']}",
        highlight=False,
    )
    for partition in result["partitions"]:
        _show_partition(console, partition)


def _show_partition(console: Console, partition: dict[str, Any]) -> None:
    guest = partition["guest"]
    parts = [
        partition["state"],
        f"{_megabytes(partition['ram_size'])} RAM",
        f"{partition['channels']} channels",
        f"guest pid {guest['pid']}, {partition['connection']} {partition['version'] or ''}".rstrip()
        if guest
        else "no guest",
        *(f"host {host['link']}: pid {host['pid']}" for host in partition["hosts"]),
    ]
    rows: list[list[object]] = [
        [
            seat["vp"],
            seat["state"],
            seat["pid"],
            seat["incarnation"],
            seat["pending"],
            seat["statistics"]["callbacks"],
            seat["statistics"]["sleeps"],
            seat["recoveries"],
        ]
        for seat in partition["workers"]
    ]
    columns = ["VP", "state", "pid", "incarnation", "pending", "callbacks", "sleeps", "recoveries"]
    _print(console, f"{partition['name']}: {', '.join(parts)}", columns, rows)
    for seat in partition["workers"]:
        if seat["by_order"]:
            console.print(f"  VP {seat['vp']} is offline by order", highlight=False)
    if rules := partition["faults"]["rules"]:
        kinds = ", ".join(dict.fromkeys(rule["kind"] for rule in rules))
        fired = counted(sum(rule["fired"] for rule in rules), "time")
        text = (
            f"{counted(len(rules))} armed ({kinds}), fired {fired}: vmbusctl fault list {partition['name']}"
        )
        console.print(f"  {text}", style="yellow", highlight=False, soft_wrap=True)
    stuck = [
        f"VP {seat['vp']}: its worker is stuck for {seat['stuck_seconds']:.0f} s"
        for seat in partition["workers"]
        if seat["stuck"]
    ]
    for text in [partition["reason"], *stuck, *partition["warnings"]]:
        if text:
            console.print(f"  {text}", style="red", highlight=False)


def show_channels(console: Console, name: str, result: dict[str, Any]) -> None:
    """One line per channel of the bus."""
    columns = [
        "relid",
        "flag",
        "state",
        "target_vp",
        "host",
        "generation",
        "interrupts",
        "interface",
        "instance",
    ]
    rows = [[channel[column] for column in columns] for channel in result["channels"]]
    _print(console, f"{name}: {len(rows)} channels", columns, rows)


def show_table(console: Console, name: str, result: dict[str, Any]) -> None:
    """One line per slot of the channel table."""
    columns = ["flag", "relid", "open", "slot_generation", "target_vp", "host_link", "claim", "instance_id"]
    rows = [
        [f"{slot[column]:#x}" if column == "claim" else slot[column] for column in columns]
        for slot in result["slots"]
    ]
    _print(console, f"{name}: {len(rows)} slots", columns, rows)


def show_faults(console: Console, name: str, result: dict[str, Any]) -> None:
    """One line per fault."""
    rows: list[list[object]] = [
        [rule["id"], rule["kind"], rule["fired"], _to_whom(rule), rule.get("seen"), _told(rule)]
        for rule in result["rules"]
    ]
    columns = ["id", "kind", "fired", "fired_by", "seen", "rule"]
    _print(console, f"{name}: {counted(len(rows))}", columns, rows)


def _to_whom(rule: dict[str, Any]) -> str | None:
    """By whom the fault came to, where that is counted."""
    return ", ".join(f"{name}: {count}" for name, count in rule.get("fired_by", {}).items()) or None


def _told(rule: dict[str, Any]) -> str:
    """What a rule says beside its kind, as the options that said it."""
    shown = {
        key: value for key, value in rule.items() if key not in ("id", "kind", "fired", "fired_by", "seen")
    }
    return " ".join(
        f"{key}={','.join(value) if isinstance(value, list) else value}" for key, value in shown.items()
    )
