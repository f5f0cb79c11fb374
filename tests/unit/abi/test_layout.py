"""The C header, the Python numbers and the prose say the same about every shared byte and every packet."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vmbusd.abi import device_link, layout, link
from vmbusd.abi.packing import Packing

ROOT = Path(__file__).resolve().parents[3]
HEADER = ROOT / "vmbusd/abi/vmbus_abi.h"
Place = tuple[int, int]


def fields_of_the_header() -> dict[str, list[str]]:
    """Names of the fields of every struct that the header defines, in order."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    return {
        name: re.findall(r"\w (\w+)(?:\[[^\]]*\])?;", body)
        for name, body in re.findall(r"struct (\w+) \{(.*?)\n\};", text, re.DOTALL)
    }


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    """What the compiler says: struct.field -> offset, size; struct -> 0, size; macro -> value, 0."""
    macros = re.findall(r"^#define (VMB_\w+) ", HEADER.read_text(), re.MULTILINE)
    lines = [f'printf("{macro} %llu 0\\n", (unsigned long long){macro});' for macro in macros]
    for name, fields in fields_of_the_header().items():
        lines.append(f'printf("{name} 0 %zu\\n", sizeof(struct {name}));')
        for field in fields:
            member = f"((struct {name} *)0)->{field}"
            lines.append(
                f'printf("{name}.{field} %zu %zu\\n", offsetof(struct {name}, {field}), sizeof({member}));'
            )
    folder = tmp_path_factory.mktemp("layout")
    source = folder / "print.c"
    program = f'#include <stdio.h>\n#include "{HEADER}"\nint main(void) {{ {" ".join(lines)} }}\n'
    source.write_text(program)
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", str(folder / "print"), str(source)]
    subprocess.run(command, check=True)
    printed = subprocess.run([str(folder / "print")], check=True, capture_output=True, text=True).stdout
    return {name: (int(one), int(two)) for name, one, two in map(str.split, printed.splitlines())}


def tables(document: str) -> dict[str, list[tuple[str, str, str]]]:
    """Heading -> rows (offset, size, field) of the tables whose first columns these are."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    heading = ""
    for line in (ROOT / "docs" / document).read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif row := re.match(r"\| (\d+) \| (\d+|rest) \| (\w+) \|", line):
            found.setdefault(heading, []).append((row[1], row[2], row[3]))
    return found


@pytest.mark.build
def test_the_prose_has_every_field_of_the_header(compiled: dict[str, Place]) -> None:
    """Every struct has a table; every field a row with its offset and size; nothing is left over."""
    written: dict[str, Place] = {}
    for heading, rows in tables("abi.md").items():
        match = re.fullmatch(r".*: `(\w+)`, (\d+) bytes", heading)
        assert match, heading
        written[match[1]] = (0, int(match[2]))
        written |= {f"{match[1]}.{field}": (int(offset), int(size)) for offset, size, field in rows}

    assert written == {name: place for name, place in compiled.items() if name.startswith("vmb_")}


@pytest.mark.build
def test_the_fields_leave_no_hole(compiled: dict[str, Place]) -> None:
    """No byte of a shared struct is the compiler's: each field begins where the one before ends."""
    for name, fields in fields_of_the_header().items():
        end = 0
        for field in fields:
            offset, size = compiled[f"{name}.{field}"]
            assert offset == end, f"{name}.{field}"
            end += size
        assert end == compiled[name][1], name


@pytest.mark.build
def test_python_has_the_numbers_of_the_header(compiled: dict[str, Place]) -> None:
    """Each constant of `layout` is the compiler's."""
    value = {name: place[0] for name, place in compiled.items()}
    size = {name: place[1] for name, place in compiled.items()}
    same = {
        "ABI_VERSION": value["VMB_ABI_VERSION"],
        "PAGE": value["VMB_PAGE"],
        "FLAGS": value["VMB_FLAGS"],
        "MAX_RELID": value["VMB_FLAGS"] - 1,
        "MAX_VPS": value["VMB_MAX_VPS"],
        "SINT": value["VMB_SINT"],
        "FLAGS_OFFSET": value["vmb_event_page.flags"],
        "FLAGS_BYTES": size["vmb_event_page.flags"],
        "NO_TARGET": value["VMB_NO_TARGET"],
        "EVENT_PAGE_SIZE": size["vmb_event_page"],
        "TABLE_MAGIC": value["VMB_TABLE_MAGIC"],
        "TABLE_SLOTS_OFFSET": value["vmb_table.slot"],
        "TABLE_RECORDS_OFFSET": value["vmb_table.record"],
        "RECORD_SIZE": size["vmb_record"],
        "TABLE_SIZE": size["vmb_table"],
        "TABLE_OWNERS_OFFSET": value["vmb_table_header.owner"],
        "OWNER_SIZE": size["vmb_owner"],
        "TABLE_FAULTS_OFFSET": value["vmb_table_header.fault"],
        "FAULT_RULES": value["VMB_FAULT_RULES"],
        "FAULT_RULE_SIZE": size["vmb_fault_rule"],
        "FAULT_ALWAYS": value["VMB_FAULT_ALWAYS"],
        "FAULT_ANY": value["VMB_FAULT_ANY"],
        "SLOT_OPEN": value["VMB_SLOT_OPEN"],
        "GENERATION_MAX": value["VMB_GENERATION_MAX"],
        "VPWORK_SIZE": size["vmb_vpwork"],
        "VPWORK_TAKEN_OFFSET": value["vmb_vpwork.taken"],
        "VPWORK_FIRED_OFFSET": value["vmb_vpwork.fired"],
        "BLOCK_SIZE": size["vmb_block"],
        "BLOCK_RING_OFFSET": value["vmb_block.ring_pfn"],
        "BLOCK_CLEARED_FROM": value["VMB_BLOCK_CLEARED_FROM"],
        "BLOCK_STATE_OFFSET": value["vmb_block.driver_state"],
        "BLOCK_STATE_SIZE": size["vmb_block.driver_state"],
        "BLOCK_REQUESTS_OFFSET": value["vmb_block.requests"],
        "REQUESTS": value["VMB_REQUESTS"],
        "GUEST_SIZE": size["vmb_block"] * value["VMB_FLAGS"],
        "CLAIM_RUN": value["VMB_CLAIM_RUN"],
        "CLAIM_AGAIN": value["VMB_CLAIM_AGAIN"],
        "HOST_PAGE_SIZE": size["vmb_host_page"],
        "HOST_IDLE_OFFSET": value["vmb_host_page.idle"],
        "HOST_FIRED_OFFSET": value["vmb_host_page.fired"],
        "HOST_FIRED_IN_GUEST_OFFSET": value["vmb_host_page.fired_in_guest"],
    }

    assert {name: getattr(layout, name) for name in same} == same
    own = {"DEFAULT_VPS", "NO_MONITOR", "LOCK_BYTE_DAEMON", "LOCK_BYTE_PEER", "GENERATION_SHIFT"}
    own |= {"DEFAULT_RAM_SIZE", "SEMAPHORE_SIZE"}
    assert {name for name in vars(layout) if name.isupper()} == set(same) | own


def test_sizes_and_slots_follow_from_the_numbers() -> None:
    """What is computed agrees with what is asserted."""
    assert (layout.events_size(3), layout.vpwork_size(3)) == (3 * 4096, 3 * 512)
    slot = layout.slot_value(layout.GENERATION_MAX, 2047, is_open=True)
    assert slot == (0x7FFFFFFF << 33) | (1 << 32) | layout.record_offset(2047)
    assert layout.record_offset(2047) + layout.RECORD_SIZE == layout.TABLE_SIZE
    assert layout.slot_generation(slot) == layout.GENERATION_MAX
    assert layout.next_generation(layout.GENERATION_MAX) == 1
    assert layout.next_generation(1) == 2


def rows_of(packing: Packing[Any]) -> list[tuple[str, str, str]]:
    """The table of a packet, found by asking where each field's bytes go."""
    rows = []
    codes = re.findall(r"\d*s|[BHIQi]", packing._struct.format)
    width = {"B": 1, "H": 2, "I": 4, "i": 4, "Q": 8}
    offset = 0
    for name, code in zip(packing.names, codes, strict=False):
        size = int(code[:-1]) if code.endswith("s") else width[code]
        rows.append((str(offset), str(size), name))
        offset += size
    assert offset == packing.size
    if packing.has_tail:
        rows.append((str(offset), "rest", packing.names[-1]))
    return rows


def test_the_prose_has_every_packet() -> None:
    """Header, grant and all kinds of both sockets, with each field's offset and size."""
    expected = {
        f"Header, {link.HEADER.size} bytes": rows_of(link.HEADER),
        f"Grant, {link.GRANT.size} bytes": rows_of(link.GRANT),
    }
    kinds: dict[int, Packing[Any]] = {int(kind): packing for kind, packing in link.BODIES.items()}
    kinds |= device_link._PACKING
    for kind, packing in kinds.items():
        name = packing.cls.__name__
        expected[f"{int(kind)} {name}, {packing.size} bytes"] = rows_of(packing)

    assert tables("sockets.md") == expected


def test_every_kind_has_a_packet() -> None:
    """A kind without a body would be an unknown kind; only channel messages have none of their own."""
    assert set(link.BODIES) == set(link.Kind) - {link.Kind.MESSAGE}
    assert set(device_link._PACKING) == {int(kind) for kind in device_link.Kind}


@pytest.mark.parametrize("numbers", [link.Object, link.Role, link.Code])
def test_the_prose_has_every_number(numbers: type[link.Object | link.Role | link.Code]) -> None:
    """Objects, roles and codes by value and name."""
    text = (ROOT / "docs/sockets.md").read_text()

    assert all(f"| {number.value} | {number.name} |" in text for number in numbers)
    assert all(f"| {flag.value:#x} {flag.name} |" in text for flag in link.HelloFlag)
