"""Write lrfinder_nb/__init__.pyi, which tells type checkers where public names live; `--check` only compares."""
import sys

from entries import public_names
from run_nbs import ROOT

STUB = ROOT/'lrfinder_nb/__init__.pyi'


def stub():
    "The text of the stub: one import for each module"
    homes, names = {}, public_names(ROOT/'lrfinder_nb/__init__.py')
    for name, module in names.items(): homes.setdefault(module, []).append(name)
    lines = [f'from .{module} import {name} as {name}' for module, found in homes.items() for name in found]
    return '\n'.join(['# Written by docs/stub.py.', *lines, '', '__version__: str', ''])


def main(args):
    stale = not STUB.exists() or STUB.read_text() != stub()
    if '--check' in args:
        if stale: print('lrfinder_nb/__init__.pyi is out of date; run python docs/stub.py')
        return stale
    if stale: STUB.write_text(stub())


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
