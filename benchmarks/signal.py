"""What the signal path costs, as ratios to C floors built from the same headers: `./dev bench signal`.

Read benchmarks/README.md for what each row measures. This file only finds the rest: its folder must not be
on the import path, where this very file would be taken for the standard library's `signal`.
"""

import sys
from os.path import dirname, realpath

if __name__ == "__main__":
    here = dirname(realpath(__file__))
    sys.path[:] = [dirname(here), *(path for path in sys.path if realpath(path) != here)]
    from benchmarks._suite import main

    sys.exit(main())
