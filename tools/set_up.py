"""What `./dev` sets up on first use: a virtual environment with this checkout, and the native core in place.

Standard library only. Two digests in .venv/set-up.json say whether the set-up is still true: one of what
decides the environment (pyproject.toml, setup.py, the interpreter, where the checkout lies), one of what
decides the native core (its sources, the compiler flags). A digest is taken away before the work it stands
for begins and written after that work is done, so an interrupted set-up is begun again by the next run.
Everything said here goes to standard error: standard output belongs to the command.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "set-up.json"
PYTHON = VENV / "bin" / "python"
NATIVE = (ROOT / "vmbusd" / "abi", ROOT / "vmbusd" / "lab")
OLDEST = (3, 11)


def say(text: str) -> None:
    print(f"dev: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(text)
    sys.exit(1)


# -- set-up: what the machine must have ----------------------------------------------------------------------


class Steps:
    """Runs the commands of one set-up in one environment, holding the lock that keeps other set-ups away."""

    def __init__(self, lock: int) -> None:
        self.lock = lock
        # A user's own pip configuration must not send our packages elsewhere or make pip ask.
        pip = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self.env = {**os.environ, **pip, "DEBIAN_FRONTEND": "noninteractive"}

    def run(self, label: str, command: Sequence[object], *shown: str) -> None:
        """Runs one step: lines that begin with a `shown` word are progress; on failure all are shown."""
        import subprocess

        say(f"{label} ...")
        begun = time.monotonic()
        output = []
        # The lock goes along: if this process is killed, the next ./dev waits until its step has ended too.
        with subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(self.lock,),
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                output.append(line)
                if shown and line.lstrip().startswith(shown):
                    print(f"       {line.strip()[:100]}", file=sys.stderr, flush=True)
        if process.returncode:
            sys.stderr.write("".join(output))
            fail(f"{label}: failed (status {process.returncode})")
        say(f"{label}: {time.monotonic() - begun:.1f} s")


def answer(*command: str) -> str | None:
    """What a command prints, or None if it cannot be run or fails."""
    import subprocess

    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout


def base_interpreter() -> str:
    """The interpreter to build on: VMBUSD_PYTHON, else the one running this, outside of any .venv."""
    import shutil

    wanted = os.environ.get("VMBUSD_PYTHON")
    own = sys.executable if sys.prefix == sys.base_prefix else f"{sys.base_prefix}/bin/python3"
    others = [f"python3.{minor}" for minor in range(OLDEST[1], 30)]
    question = "import os, sys; assert sys.version_info >= (3, 11); print(os.path.realpath(sys.executable))"
    for name in [wanted] if wanted else [own, *others]:
        path = shutil.which(name)
        found = answer(path, "-c", question) if path else None
        if found:
            return found.strip()
    oldest = ".".join(map(str, OLDEST))
    fail(f"{wanted or own} is not Python {oldest} or newer: name one with VMBUSD_PYTHON=/path/to/python3")


def working_compiler(python: str) -> str | None:
    """The first C compiler that links a shared object with this interpreter's Python.h, else None."""
    import shlex
    import tempfile

    question = "import sysconfig as s; print(s.get_config_var('CC') or 'cc'); print(s.get_path('include'))"
    configured, include = (answer(python, "-c", question) or "cc\n\n").splitlines()[:2]
    probe = "#include <Python.h>\n#include <semaphore.h>\nint probe(sem_t *s) { return sem_post(s); }\n"
    with tempfile.TemporaryDirectory(prefix="dev-") as scratch:
        source = Path(scratch, "probe.c")
        source.write_text(probe)
        flags = ["-std=gnu11", "-shared", "-fPIC", f"-I{include}", "-o", f"{scratch}/probe.so", str(source)]
        for compiler in dict.fromkeys(filter(None, [os.environ.get("CC"), configured, "gcc", "cc"])):
            if answer(*shlex.split(compiler), *flags) is not None:
                return compiler
    return None


def require_tools(python: str, steps: Steps) -> None:
    """Tries what the set-up will need. What is missing is installed by root, and named to anybody else."""
    import shutil

    def missing() -> list[str]:
        compiler = working_compiler(python)
        if compiler:
            steps.env["CC"] = compiler
        venv = [] if answer(python, "-c", "import ensurepip, venv") is not None else [f"{package}-venv"]
        return venv if compiler else ["gcc", "libc6-dev", f"{package}-dev", *venv]

    package = "python3" if os.path.realpath("/usr/bin/python3") == python else Path(python).name
    packages = missing()
    if not packages:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    by_hand = f"apt-get update && {' '.join(install)}"
    if shutil.which("apt-get") is None:
        fail(f"{python} finds no C compiler, Python.h or ensurepip. Debian's names: {' '.join(packages)}")
    if os.geteuid() != 0:
        fail(f"some tools are missing; run this once, then ./dev again:\n  sudo sh -c '{by_hand}'")
    if answer("apt-get", "install", "--dry-run", *packages) is None:
        steps.run("apt-get update", ["apt-get", "update"], "Get:", "Err:")
    steps.run(f"installing {' '.join(packages)}", install, "Get:", "Setting up")
    if missing():
        fail(f"{python} still cannot build an extension; what was installed: {by_hand}")


# -- set-up: the environment and the native core -------------------------------------------------------------


def digest(texts: Sequence[str], files: Sequence[Path]) -> str:
    value = hashlib.sha256()
    for part in [*map(os.fsencode, texts), *(os.fsencode(f.name) + f.read_bytes() for f in files)]:
        value.update(b"%d:" % len(part) + part)
    return value.hexdigest()


def environment_digest() -> str:
    interpreter = os.path.realpath(PYTHON)
    files = [ROOT / "pyproject.toml", ROOT / "setup.py", VENV / "pyvenv.cfg"]
    return digest([interpreter, str(os.path.exists(interpreter))], [file for file in files if file.exists()])


def native_digest() -> str:
    kinds = ("pyx", "pxi", "pxd", "h")
    sources = [file for folder in NATIVE for kind in kinds for file in sorted(folder.glob(f"*.{kind}"))]
    return digest([os.environ.get("VMBUSD_CFLAGS", "")], [*sources, ROOT / "setup.py"])


def read_stamp() -> dict[str, str] | None:
    """What the last set-up left: None if there was none, an empty one if it did not end."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {} if STAMP.exists() else None
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(**stamp: str) -> None:
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(stamp))
    os.replace(fresh, STAMP)


def create_environment(steps: Steps) -> None:
    """Makes .venv anew. One that somebody else made is used as it is and never removed."""
    import shutil

    if VENV.exists() and read_stamp() is None and any(VENV.iterdir()):
        if answer(str(PYTHON), "-m", "pip", "--version") is None:
            fail(f"{VENV} was not made by ./dev and has no working pip: move it away, then run ./dev again")
        require_tools(os.path.realpath(PYTHON), steps)
        return
    python = base_interpreter()
    say(f"first use: setting up {VENV} with {python}")
    require_tools(python, steps)
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir(parents=True)
    write_stamp()
    steps.run("creating .venv", [python, "-m", "venv", VENV])


def install(steps: Steps) -> None:
    """Installs the checkout, editable, with all that its commands need; this builds the native core too."""
    import tomllib

    with open(ROOT / "pyproject.toml", "rb") as file:
        build_tools = tomllib.load(file)["build-system"]["requires"]
    pip = [PYTHON, "-m", "pip", "install", "--progress-bar", "off"]
    write_stamp()
    steps.run("installing the build tools", [*pip, *build_tools], "Collecting", "Installing")
    everything = [*pip, "--no-build-isolation", "-e", ".[dev]"]
    try:
        steps.run("installing vmbusd and its tools", everything, "Collecting", "Building", "Installing")
    except SystemExit:
        # pip builds before it touches anything: what is there is sound, and a next run need not begin anew.
        write_stamp(root=str(ROOT))
        raise


def set_up() -> None:
    """Leaves .venv and the native core as the checkout wants them; one ./dev at a time does the work."""
    with open(ROOT / "dev", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for the set-up of another ./dev")
            fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, root = read_stamp() or {}, str(ROOT)
        steps = Steps(lock.fileno())
        environment, native = environment_digest(), native_digest()
        other_python = "VMBUSD_PYTHON" in os.environ and base_interpreter() != os.path.realpath(PYTHON)
        usable = stamp.get("root") == root and not other_python
        if usable and stamp.get("environment") == environment:
            if stamp.get("native") == native and all(any(folder.glob("*.so")) for folder in NATIVE):
                return
            write_stamp(root=root, environment=environment)
            require_tools(os.path.realpath(PYTHON), steps)
            # Forced, because other flags make no file newer.
            build = [PYTHON, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
            steps.run("building the native core", build)
        else:
            if usable and answer(str(PYTHON), "-m", "pip", "--version") is not None:
                say("pyproject.toml or setup.py changed")
                require_tools(os.path.realpath(PYTHON), steps)
            else:
                create_environment(steps)
            install(steps)
        write_stamp(root=root, environment=environment_digest(), native=native)


def install_extra(extra: str, module: str) -> None:
    """Installs the packages of an extra of pyproject.toml unless `module`, one of them, is there already."""
    if answer(str(PYTHON), "-c", f"import {module}") is not None:
        return
    import tomllib

    with open(ROOT / "pyproject.toml", "rb") as file:
        needed = tomllib.load(file)["project"]["optional-dependencies"][extra]
    with open(ROOT / "dev", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [PYTHON, "-m", "pip", "install", "--progress-bar", "off", *needed]
        Steps(lock.fileno()).run(f"installing what {extra} needs", command, "Collecting", "Installing")
