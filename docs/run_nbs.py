"""Execute notebooks in place and store their outputs; `--check` says which outputs are out of date.

    python docs/run_nbs.py                  every notebook of nbs/
    python docs/run_nbs.py nbs/core/02_curve.ipynb
    python docs/run_nbs.py --check

A notebook whose title cell says `- skip_exec: true` needs a library that is not among the requirements. It is executed
only where it is named, by the Python of an environment with that library (see tests/neighbours/run.sh).
"""
import hashlib
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
WIDGET = 'application/vnd.jupyter.widget-view+json'
SKIPPED = re.compile(r'^#\s*\|\s*eval:\s*false', re.M | re.I)


def elsewhere(nb):
    "Whether a notebook is executed in an environment of its own"
    return bool(nb.cells) and '- skip_exec: true' in nb.cells[0].source


class Client(NotebookClient):
    "Runs what nbdev_test runs: a cell with `#| eval: false` is left alone"
    async def async_execute_cell(self, cell, *args, **kwargs):
        if cell.cell_type == 'code' and SKIPPED.search(cell.source): return cell
        return await super().async_execute_cell(cell, *args, **kwargs)


def fingerprint(nb):
    "Of each code cell that the stored outputs came from, a word"
    code = [c.source.encode() for c in nb.cells if c.cell_type == 'code']
    return ' '.join(hashlib.sha256(c).hexdigest()[:6] for c in code)


def changed(nb):
    "Index of the first cell whose code is not that which was executed, or None"
    old, new = nb.metadata.get('executed', '').split(), fingerprint(nb).split()
    if old == new: return None
    k = next((k for k, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
    return [*(i for i, c in enumerate(nb.cells) if c.cell_type == 'code'), len(nb.cells)][k]


def run(path):
    "Execute the notebook at `path` in its own folder"
    nb = nbformat.read(path, 4)
    for c in nb.cells:
        if c.cell_type == 'code': c.outputs, c.execution_count = [], None
    here = {'metadata': {'path': str(path.parent)}}
    Client(nb, timeout=1200, kernel_name='python3', store_widget_state=False, resources=here).execute()
    for c in nb.cells:      # a widget without its kernel is an error message, and the picture beside it stays
        if c.cell_type == 'code': c.outputs = [o for o in c.outputs if WIDGET not in o.get('data', {})]
    nb.metadata.pop('widgets', None)
    text = nbformat.writes(nb)
    drawn = dict.fromkeys(re.findall(r'lrx-[0-9a-f]{8}', text))      # random names would change the file each time
    for i, old in enumerate(drawn): text = text.replace(old, f'lrx-{i}')
    nb = nbformat.reads(text, 4)
    nb.metadata.pop('language_info', None)
    nb.metadata.executed = fingerprint(nb)
    nbformat.write(nb, path)


def faults(path):
    "What is wrong with the stored outputs at `path`, as sentences"
    nb = nbformat.read(path, 4)
    if (i := changed(nb)) is not None: yield f'from cell {i} on, the outputs are not those of the code'
    for i, c in enumerate(nb.cells):
        for o in c.get('outputs', []):
            if o.output_type == 'error': yield f'cell {i} ended in {o.ename}'
            if o.get('name') == 'stderr': yield f'cell {i} wrote to stderr'
            paths = (str(ROOT), f'{Path.home()}{os.sep}')
            if any(p in str(o) for p in paths): yield f'cell {i} shows a path of this machine'


def check(paths):
    "Say what is wrong with the stored outputs, and return whether something is"
    bad = [(p.relative_to(ROOT), f) for p in paths for f in faults(p)]
    for name, fault in bad: print(f'{name}: {fault}; run python docs/run_nbs.py {name}')
    if not bad: print(f'{len(paths)} notebooks are executed')
    return bool(bad)


def main(args):
    names = [a for a in args if a != '--check']
    found = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    paths = [Path(n).resolve() for n in names] or found
    if '--check' in args: return check(paths)
    os.environ.pop('MPLBACKEND', None)      # the kernel draws into the notebook
    for k in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'IPYTHONDIR'):
        Path(os.environ.setdefault(k, str(ROOT/'.jupyter-home'/k))).mkdir(parents=True, exist_ok=True)
    for p in paths:
        if not names and elsewhere(nbformat.read(p, 4)): continue
        t = time.time()
        run(p)
        print(f'{p.relative_to(ROOT)} {time.time() - t:.1f}s', flush=True)


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
