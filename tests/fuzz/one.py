"""Fuzzes one target with atheris, in a process of its own: libFuzzer does not return.

`run` calls this as `python -m tests.fuzz.one TARGET [libFuzzer options] [folders]`. Coverage is that of the
codecs and the bus: they are instrumented as they are imported.
"""

import sys

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["vmbusd.abi", "vmbusd.bus"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
