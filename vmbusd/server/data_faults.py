"""The rules on the data path: written into page 0 of the table, counted by whoever has the fault.

The rules stay there when the daemon dies, and hold while none runs. The next one writes only what differs
from what its journal says. A count begins at 0 with its rule. That of a host goes with its page, so it is
read before, and the page of the next link with this number begins with it: `times` holds however often a host
comes back. Source: docs/abi.md, docs/faults.md.
"""

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
        for vp in range(self._memory.vps):
            self._of_vp(vp, writable=True).begin(index)
        for number in self._hosts():
            window = self._page(number)
            if window is not None:
                for offset in _IN_HOST_PAGE.values():
                    FaultCounts(window.map, offset, writable=True).begin(index)
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
        """How often each index has come, by whom it came to: "vp 0", "host 1", "guest to host 1"; those to
        whom it never came are left out, and hosts whose link has ended are not there any more."""
        fired = {f"vp {vp}": self._of_vp(vp).fired() for vp in range(self._memory.vps)}
        for number in self._hosts():
            fired |= self._in_page(number)
        return _by_index(fired)

    def of_host(self, number: int) -> dict[int, dict[str, int]]:
        """The part of `counts` that goes with the page of this host link."""
        return _by_index(self._in_page(number))

    def _in_page(self, number: int) -> dict[str, list[int]]:
        window = self._page(number)
        if window is None:
            return {}
        fired = {
            f"{name} {number}": FaultCounts(window.map, offset).fired()
            for name, offset in _IN_HOST_PAGE.items()
        }
        self._memory.drop(window)
        return fired

    def begin_host(self, number: int, counts: Mapping[int, Mapping[str, int]]) -> None:
        """Have the page of host link `number`, which nobody else knows yet, begin with what of `counts`, by
        index and name as `of_host` has them, is its own. Raises ResourceError when it cannot be mapped."""
        made = self._memory.objects[Object.HOST_PAGE, number]
        window = self._memory.window(made, made.size)
        try:
            for name, offset in _IN_HOST_PAGE.items():
                page = FaultCounts(window.map, offset, writable=True)
                for index, counted in counts.items():
                    page.begin(index, counted.get(f"{name} {number}", 0))
        finally:
            self._memory.drop(window)


def _by_index(fired: Mapping[str, list[int]]) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for name, counts in fired.items():
        for index, count in enumerate(counts):
            if count:
                found.setdefault(index, {})[name] = count
    return found
