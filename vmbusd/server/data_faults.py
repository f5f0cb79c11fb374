"""The rules on the data path: written into page 0 of the table, counted by whoever has the fault.

The rules stay there when the daemon dies, and hold while none runs. The next one writes only what differs
from what its journal says. A count begins at 0 with its rule; that of a host goes with its page, so it is
read before. Source: docs/abi.md, docs/faults.md.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final

from vmbusd.abi import faults, layout
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.faults import Rule
from vmbusd.abi.link import Object
from vmbusd.abi.native import FaultCounts
from vmbusd.server.memory import Memory, Window

_IN_HOST_PAGE: Final = {
    "host": layout.HOST_FIRED_OFFSET,
    "guest to host": layout.HOST_FIRED_IN_GUEST_OFFSET,
}


class DataFaults:
    """Page 0 of one partition's table, as far as it is about faults."""

    def __init__(self, memory: Memory, hosts: Callable[[], Collection[int]]) -> None:
        """`hosts()`: the numbers of the host links."""
        self._memory = memory
        self._hosts = hosts
        self._gone: dict[int, Counter[str]] = {}

    def free(self, used: Collection[int]) -> int:
        """The lowest index that no rule has. Raises ResourceError when all have one."""
        for index in range(layout.FAULT_RULES):
            if index not in used:
                return index
        raise ResourceError(f"{layout.FAULT_RULES} faults of the data path are the most")

    def install(self, rules: Mapping[int, Rule]) -> None:
        """Have exactly these rules, by index, in force. What is in force already goes on counting."""
        table = self._memory.table
        for index in range(layout.FAULT_RULES):
            rule = rules.get(index)
            wanted = faults.encode(rule) if rule is not None else None
            there = table.fault(index)
            if wanted is not None and there[4:] == wanted[4:]:
                continue
            if wanted is not None or any(there[4:8]):
                table.set_fault(index, None)
            if wanted is not None:
                self._clear(index)
                table.set_fault(index, wanted)
        if bool(self._memory.table.header()["fault_armed"]) is not bool(rules):
            table.set_fault_armed(bool(rules))

    def _clear(self, index: int) -> None:
        self._gone.pop(index, None)
        for vp in range(self._memory.vps):
            self._of_vp(vp, writable=True).clear(index)
        for number in self._hosts():
            window = self._page(number)
            if window is not None:
                for offset in _IN_HOST_PAGE.values():
                    FaultCounts(window.map, offset, writable=True).clear(index)
                self._memory.drop(window)

    def _of_vp(self, vp: int, *, writable: bool = False) -> FaultCounts:
        at = layout.VPWORK_SIZE * vp + layout.VPWORK_FIRED_OFFSET
        return FaultCounts(self._memory.vpwork_pages, at, writable=writable)

    def _page(self, number: int) -> Window | None:
        """The page of a host link; None when it has ended, or there is no room to map it now."""
        if not self._memory.objects.host_objects(number):
            return None
        made = self._memory.objects[Object.HOST_PAGE, number]
        try:
            return self._memory.window(made, made.size)
        except ResourceError:
            return None

    def counts(self) -> dict[int, dict[str, int]]:
        """How often each index has come, by whom it came to: "vp 0", "host 1", "guest to host 1"."""
        found: dict[int, Counter[str]] = {index: Counter(gone) for index, gone in self._gone.items()}
        for vp in range(self._memory.vps):
            _add(found, f"vp {vp}", self._of_vp(vp).fired())
        for number in self._hosts():
            for name, fired in self._of_host(number).items():
                _add(found, name, fired)
        return {index: dict(counted) for index, counted in found.items()}

    def _of_host(self, number: int) -> dict[str, list[int]]:
        window = self._page(number)
        if window is None:
            return {}
        fired = {
            f"{name} {number}": FaultCounts(window.map, offset).fired()
            for name, offset in _IN_HOST_PAGE.items()
        }
        self._memory.drop(window)
        return fired

    def host_ends(self, number: int) -> None:
        """A host link ends, and its page with it."""
        for name, fired in self._of_host(number).items():
            _add(self._gone, name, fired)


def _add(to: dict[int, Counter[str]], name: str, fired: list[int]) -> None:
    for index, count in enumerate(fired):
        if count:
            to.setdefault(index, Counter())[name] += count
