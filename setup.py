"""Builds the extension modules: the native core, and the lab's; the rest is in pyproject.toml."""

import os
import shlex
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

# VMBUSD_CFLAGS is appended last. Tests use it to build the core with one deliberate mistake compiled in
# (for example a sleep without its second look) and to show that the demo notices.
FLAGS = ["-O3", "-std=gnu11", "-Wall", "-Wextra", "-fno-strict-aliasing"]

native = Extension(
    "vmbusd.abi.native",
    sources=["vmbusd/abi/native.pyx"],
    include_dirs=["vmbusd/abi"],
    depends=sorted(name for pattern in ("*.h", "*.pxi", "*.pxd") for name in glob(f"vmbusd/abi/{pattern}")),
    extra_compile_args=[*FLAGS, *shlex.split(os.environ.get("VMBUSD_CFLAGS", ""))],
)

lab = [
    Extension(
        f"vmbusd.lab.{name}",
        sources=[f"vmbusd/lab/{name}.pyx"],
        include_dirs=["vmbusd/lab", "vmbusd/abi"],
        depends=sorted(glob("vmbusd/lab/*.h") + glob("vmbusd/abi/*.h")),
        extra_compile_args=native.extra_compile_args,
    )
    for name in ("percpu", "stepped")
]

setup(ext_modules=cythonize([native, *lab], build_dir="build/cython"))
