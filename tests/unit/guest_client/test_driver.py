"""Drivers by name: what can be found again in another process, and what is told to whom it cannot."""

from uuid import UUID

import pytest

from guest_client.driver import Driver, DriverName, checked, make, name_of, parse_name
from vmbusd.abi.errors import UsageError


class Named(Driver):
    interface = UUID(int=7)


class Outer:
    class Inner(Driver):
        interface = UUID(int=8)


class Plain:
    pass


def test_a_driver_is_made_again_from_its_name() -> None:
    """Module, class and config of a driver make its twin, nested classes included."""
    for driver in (Named(), Named("x=1"), Outer.Inner("y")):
        twin = make(name_of(driver))

        assert type(twin) is type(driver)
        assert twin.config == driver.config


def test_a_driver_of_main_has_no_name() -> None:
    """A class of __main__ or of a function cannot be imported elsewhere, and the error says so."""

    class Local(Driver):
        interface = UUID(int=9)

    in_main = type("InMain", (Driver,), {"interface": UUID(int=9), "__module__": "__main__"})
    with pytest.raises(UsageError, match="defined in __main__"):
        name_of(in_main())
    with pytest.raises(UsageError, match="defined in a function"):
        name_of(Local())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.b:C", DriverName("a.b", "C", "")),
        ("a:B.C=x:y=z", DriverName("a", "B.C", "x:y=z")),
    ],
)
def test_names_are_parsed(text: str, name: DriverName) -> None:
    """MODULE:CLASS, with everything after the first = as the config."""
    assert parse_name(text) == name


@pytest.mark.parametrize("text", ["", "a", "a:", ":b", "=x", "a=b:c"])
def test_names_that_are_none_are_refused(text: str) -> None:
    """Anything else is an error that shows how to write it."""
    with pytest.raises(UsageError, match="write MODULE:CLASS"):
        parse_name(text)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module_anywhere:X", "No module named"),
        (f"{__name__}:Missing", "Missing"),
        (f"{__name__}:Plain", "no subclass"),
    ],
)
def test_what_cannot_be_made_is_named(name: str, reason: str) -> None:
    """A module, class or base that is missing is an error naming the driver."""
    with pytest.raises(UsageError, match=reason):
        make(parse_name(name))


def test_a_driver_without_interface_or_rings_is_refused() -> None:
    """`interface` must be a UUID and both rings need a page."""
    flat = type("Flat", (Named,), {"ring_pages": (2, 0)})
    with pytest.raises(UsageError, match="`interface` must be a uuid"):
        checked(Driver())
    with pytest.raises(UsageError, match="ring_pages"):
        checked(flat())


def test_a_driver_of_packets_needs_room_and_a_budget() -> None:
    """A ring of one page holds no packet, and a budget of nothing would serve nobody."""
    body: dict[str, object] = {"on_packets": lambda *_: None}
    with pytest.raises(UsageError, match="no page for packets"):
        checked(type("Flat", (Named,), {**body, "ring_pages": (1, 2)})())
    for budget in ({"budget_packets": 0}, {"budget_seconds": 0.0}):
        with pytest.raises(UsageError, match="must allow something"):
            checked(type("Poor", (Named,), {**body, **budget})())
