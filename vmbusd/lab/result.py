"""The lab's result: slices and lookups summed up, as docs/lab.md names them."""

from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import msgspec

from vmbusd.abi import layout
from vmbusd.lab.lookup import Lookup
from vmbusd.lab.options import Options
from vmbusd.lab.percpu import HEAD_BYTES, NODE_BYTES
from vmbusd.lab.slices import Slice

SLOT_BYTES: Final = 8
NAMES: Final = {"per_cpu": "per-CPU lists", "global": "global table"}


def table_bytes(design: str, vps: int, channels: int) -> int:
    """What a design finds channels in: the whole table, or a head per VP and a node per channel."""
    return layout.FLAGS * SLOT_BYTES if design == "global" else vps * HEAD_BYTES + channels * NODE_BYTES


def of_design(slices: Sequence[Slice], lookup_ns: float, size: int) -> dict[str, Any]:
    """Signals, callbacks and moves of the median slice; what must not happen over all slices."""
    dropped, moves = sum(one.dropped for one in slices), sum(one.moves for one in slices)
    first = [one.first_drop_seconds for one in slices if one.first_drop_seconds is not None]
    return {
        "dropped": dropped,
        "drops_per_move": round(dropped / moves, 3) if moves else None,
        "hung": sum(one.hung for one in slices),
        "lost": sum(one.lost for one in slices),
        "overlaps": sum(one.overlaps for one in slices),
        "signals": round(median(one.signals for one in slices)),
        "callbacks": round(median(one.callbacks for one in slices)),
        "moves": round(median(one.moves for one in slices)),
        "first_drop_seconds": round(median(first), 6) if first else None,
        "lookup_ns": lookup_ns,
        "table_bytes": size,
        "agrees": all(one.agrees for one in slices),
        "slices": [
            {key: value for key, value in msgspec.structs.asdict(one).items() if key not in _OF_SLICE_ONLY}
            | {"agrees": one.agrees}
            for one in slices
        ],
    }


_OF_SLICE_ONLY: Final = ("design", "drops")
"""The design is the key it stands under; the points of the picture are for the picture."""


def summed(
    options: Options, slices: Sequence[Slice], lookup: Lookup, curve: Sequence[Lookup]
) -> dict[str, Any]:
    """The JSON object. `lookup`: with as many channels as a VP of this run has; `curve`: of the picture."""
    result: dict[str, Any] = {}
    for design in options.designs:
        ns = lookup.per_cpu_ns if design == "per_cpu" else lookup.global_ns
        mine = [one for one in slices if one.design == design]
        result[design] = of_design(mine, ns, table_bytes(design, options.vps, options.channels))
    result["lookup"] = [msgspec.structs.asdict(one) for one in curve]
    result["verdict"] = verdict(options, result)
    result["seconds"] = options.seconds
    result["vps"] = options.vps
    result["channels"] = options.channels
    result["retarget_rate"] = options.rate
    return result


def is_clean(of: dict[str, Any]) -> bool:
    """Whether a design lost nothing and all that counts agrees."""
    return of["agrees"] and not any(of[key] for key in ("dropped", "hung", "lost", "overlaps"))


def verdict(options: Options, result: dict[str, Any]) -> str:
    """The result in one sentence for each design."""
    moved = any(result[design]["moves"] for design in options.designs)
    said = [] if moved else ["No channel was moved."]
    if len(options.designs) == 2 and all(is_clean(result[design]) for design in options.designs):
        return " ".join([*said, "Both designs lost nothing."])
    for design in options.designs:
        of = result[design]
        if is_clean(of):
            said.append(f"The {NAMES[design]} lost nothing.")
        elif not of["agrees"]:
            said.append(f"The {NAMES[design]}: the counters and the oracle disagree.")
        else:
            drops, hung = f"{of['dropped']:,}", f"{of['hung']:,}"
            said.append(f"The {NAMES[design]} dropped {drops} interrupts, {hung} times a channel hung.")
    return " ".join(said)


def status(result: dict[str, Any]) -> int:
    """The exit status: 0 unless the global table lost something, or what counts does not agree."""
    lost = "global" in result and not is_clean(result["global"])
    apart = "per_cpu" in result and not result["per_cpu"]["agrees"]
    return 1 if lost or apart else 0
