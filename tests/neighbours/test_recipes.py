"""The pages about other libraries are executed again, each where its library is installed"""
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT/'docs'))
from run_nbs import Client, elsewhere  # noqa: E402

LIBRARIES = 'transformers', 'lightning', 'fastai', 'timm'
PAGES = [p for p in sorted((ROOT/'nbs').rglob('*.ipynb')) if elsewhere(nbformat.read(p, 4))]


def library(nb):
    "The one of `LIBRARIES` that a notebook imports"
    code = '\n'.join(c.source for c in nb.cells if c.cell_type == 'code')
    found = [name for name in LIBRARIES if re.search(rf'^(?:from|import) {name}\b', code, re.M)]
    assert len(found) == 1, found
    return found[0]


def test_each_library_has_a_page():
    assert sorted(library(nbformat.read(p, 4)) for p in PAGES) == sorted(LIBRARIES)


@pytest.mark.parametrize('path', PAGES, ids=lambda p: p.stem)
def test_the_page_runs(path):
    nb = nbformat.read(path, 4)
    name = library(nb)
    if find_spec(name) is None: pytest.skip(f'{name} is not installed: make test-neighbours installs it')
    Client(nb, timeout=600, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}).execute()
    outputs = [o for c in nb.cells if c.cell_type == 'code' for o in c.outputs]
    shown = ' '.join(str(o.get('data', {}).get('text/plain', '')) for o in outputs)
    assert re.search(r'Finder\(lr \d\.\de[-+]\d\d', shown), shown
    assert not [o for o in outputs if o.get('name') == 'stderr']
