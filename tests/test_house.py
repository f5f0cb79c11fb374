"""The rules of the house that no linter knows: imports, docstrings, sizes, what has no place here."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("vmbusd", "guest_client", "host_client")
MOST_LINES = 400

# Imports run one way. A module belongs to the longest prefix here that fits its name, and may import modules
# of its own layer and of the layers named; `None` is the top floor, which sees everything.
LAYERS: dict[str, tuple[str, ...] | None] = {
    "vmbusd.abi": (),
    "vmbusd.bus": ("vmbusd.abi",),
    "vmbusd.server": ("vmbusd.abi", "vmbusd.bus"),
    "vmbusd.ctl": None,
    "vmbusd.demo": None,
    "vmbusd.lab": None,
    "vmbusd.testing": None,
    "vmbusd.__main__": None,
    # The package itself holds the version and nothing else, so everybody may import it and it imports nobody.
    "vmbusd": (),
    "guest_client": ("vmbusd.abi",),
    "host_client": ("vmbusd.abi",),
}
EVERYBODYS = "vmbusd"

# Third-party modules that only some layers may use; an empty tuple means nobody.
RESTRICTED = {
    "uvloop": ("vmbusd.server", "vmbusd.__main__"),
    "structlog": ("vmbusd.server", "vmbusd.__main__"),
    "ctypes": (),
}

# Written in two parts, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK|NotImplemented" + r"Error)\b")


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py*") if is_source(file))


def is_source(file: Path) -> bool:
    return file.suffix in (".py", ".pyi", ".pyx", ".pxd") and not {"build", "__pycache__"} & set(file.parts)


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def belongs_to(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def layer_of(module: str) -> str:
    return max((prefix for prefix in LAYERS if belongs_to(module, prefix)), key=len)


def imports_of(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Every module that is imported anywhere in a file, in functions and under TYPE_CHECKING as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            up = node.level - (1 if is_package else 0)
            base = module.split(".")[: len(module.split(".")) - up] if node.level else []
            source = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                # `from vmbusd import abi` imports vmbusd.abi; a name that is no module belongs to its source.
                whole = f"{source}.{alias.name}"
                yield node.lineno, whole if is_module(whole) else source


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyx"))


def forbidden_imports(text: str, module: str, is_package: bool = False) -> list[str]:
    layer = layer_of(module)
    allowed = LAYERS[layer]
    found = []
    for line, name in imports_of(ast.parse(text), module, is_package):
        top = name.split(".")[0]
        if top in RESTRICTED:
            refused = not any(belongs_to(module, prefix) for prefix in RESTRICTED[top])
        elif top in PACKAGES:
            refused = allowed is not None and layer_of(name) not in (layer, EVERYBODYS, *allowed)
        else:
            refused = top == "tests"
        if refused:
            found.append(f"line {line}: {module} imports {name}")
    return found


def handlers_that_hide(tree: ast.AST) -> list[int]:
    """Lines of `except:` and of `except Exception` that does nothing about it."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        names = (
            {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else set()
        )
        silent = all(isinstance(step, (ast.Pass, ast.Continue)) for step in node.body)
        if node.type is None or (silent and names & {"Exception", "BaseException"}):
            found.append(node.lineno)
    return found


def docstring_of(file: Path) -> str | None:
    if file.suffix == ".pyx" or file.suffix == ".pxd":
        # Cython's own syntax is not Python's; its docstring is where Python's is.
        match = re.match(r'(?:\s*#[^\n]*\n)*\s*"""(.*?)"""', file.read_text(), re.DOTALL)
        return match.group(1) if match else None
    return ast.get_docstring(ast.parse(file.read_text()))


MODULES = [file for file in python_files(*PACKAGES) if file.suffix == ".py"]
OURS = [*MODULES, *python_files("tests", "benchmarks", "examples", "tools")]
EVERYTHING = [
    *python_files(*PACKAGES, "tests", "benchmarks", "examples", "tools"),
    *sorted(file for suffix in ("h", "c", "pxi") for file in ROOT.glob(f"[!.b]*/**/*.{suffix}")),
    ROOT / "dev",
    ROOT / "setup.py",
]


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", MODULES, ids=named)
def test_imports_run_one_way(file: Path) -> None:
    """abi <- bus <- server <- top floor; the clients know abi only; some modules have one place."""
    assert forbidden_imports(file.read_text(), module_name(file), file.stem == "__init__") == []


@pytest.mark.parametrize("file", [*OURS, ROOT / "dev", ROOT / "setup.py"], ids=named)
def test_no_file_uses_ctypes(file: Path) -> None:
    """The native core is the only way to C; not even a test goes around it."""
    names = [name for _, name in imports_of(ast.parse(file.read_text()), module_name(file), False)]

    assert [name for name in names if belongs_to(name, "ctypes")] == []


@pytest.mark.parametrize(
    "file", python_files(*PACKAGES, "tests", "benchmarks", "examples", "tools"), ids=named
)
def test_a_module_begins_with_its_reason_to_exist(file: Path) -> None:
    """The docstring's first line is a sentence."""
    docstring = docstring_of(file)

    assert docstring, "no docstring"
    first = docstring.strip().splitlines()[0].strip()
    assert first[-1] in ".:?!", f"no sentence: {first!r}"
    assert len(first.split()) >= 3, f"says nothing: {first!r}"


@pytest.mark.parametrize("file", EVERYTHING, ids=named)
def test_a_file_can_be_read_in_one_sitting(file: Path) -> None:
    """About 300 lines; more than 400 are two files."""
    assert len(file.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("file", EVERYTHING, ids=named)
def test_nothing_is_left_unfinished(file: Path) -> None:
    """No marks for later, no bodies that only say they are missing."""
    lines = enumerate(file.read_text().splitlines(), 1)

    assert [f"{number}: {line.strip()}" for number, line in lines if UNFINISHED.search(line)] == []


@pytest.mark.parametrize("file", [*OURS, ROOT / "dev", ROOT / "setup.py"], ids=named)
def test_no_handler_hides_an_error(file: Path) -> None:
    """An error is handled, told or raised."""
    assert handlers_that_hide(ast.parse(file.read_text())) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_are_typed(package: str) -> None:
    """py.typed tells type checkers to believe our annotations."""
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize(
    ("module", "text", "allowed"),
    [
        ("vmbusd.abi.wire", "from vmbusd.abi import layout", True),
        ("vmbusd.abi.wire", "import vmbusd.bus", False),
        ("vmbusd.abi.wire", "from .. import bus", False),
        ("vmbusd.bus.bus", "from vmbusd.abi.wire import Offer", True),
        ("vmbusd.bus.bus", "def f():\n    from vmbusd.server import links", False),
        ("vmbusd.bus.bus", "import structlog", False),
        ("vmbusd.server.links", "import uvloop, vmbusd.bus.bus", True),
        ("vmbusd.server.links", "import vmbusd.demo", False),
        ("vmbusd.server.links", "import host_client", False),
        ("vmbusd.demo.storm", "import host_client, guest_client, vmbusd.server", True),
        ("vmbusd.demo.storm", "import uvloop", False),
        ("vmbusd.demo.storm", "import tests.leftovers", False),
        ("vmbusd.__main__", "import uvloop, vmbusd.demo", True),
        ("guest_client.worker", "from vmbusd.abi import native", True),
        ("guest_client.worker", "from vmbusd import __version__", True),
        ("guest_client.worker", "from vmbusd import server", False),
        ("guest_client.worker", "from host_client import Host", False),
        ("host_client.host", "import guest_client.guest", False),
        ("host_client.host", "import ctypes.util", False),
        ("vmbusd", "from vmbusd import server", False),
    ],
)
def test_the_import_rule_notices(module: str, text: str, allowed: bool) -> None:
    """The rule itself, on one line of code at a time."""
    assert (forbidden_imports(text, module) == []) is allowed


@pytest.mark.parametrize(
    ("text", "hides"),
    [
        ("try: f()\nexcept OSError: pass", False),
        ("try: f()\nexcept Exception as e: log(e)", False),
        ("try: f()\nexcept: log()", True),
        ("try: f()\nexcept Exception: pass", True),
        ("try: f()\nexcept (OSError, BaseException): pass", True),
    ],
)
def test_the_handler_rule_notices(text: str, hides: bool) -> None:
    """A narrow silence is a decision; a wide one is a hole."""
    assert bool(handlers_that_hide(ast.parse(text))) is hides
