"""A module imports from lower layers only"""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lrfinder_nb

HOME = Path(lrfinder_nb.__file__).parent
CORE = {'curve', 'suggest', 'diagnose', 'consensus', 'scaling', 'schedule'}
MAY = {
    'curve': set(), 'suggest': {'curve'}, 'diagnose': {'curve', 'suggest'}, 'consensus': {'curve', 'suggest', 'diagnose'}, 'scaling': set(), 'schedule': set(), 'plot': CORE, 'svg': CORE | {'plot'}, 'state': set(), 'step': set(),
    'sweep': {'curve', 'schedule', 'step', 'parallel'}, 'background': set(), 'parallel': set(), 'finder': CORE | {'state', 'step', 'sweep', 'background', 'parallel'}, 'explorer': CORE | {'plot', 'svg'}, 'repeat': CORE | {'state', 'finder'}, 'mixup': set(), 'train': {'curve', 'schedule', 'state', 'step', 'sweep', 'background', 'parallel'}, 'live': CORE | {'svg', 'explorer', 'sweep'}, 'data': {'schedule'}, 'models': set(),
    'demo': CORE | {'plot', 'state', 'step', 'sweep', 'finder', 'data', 'models', 'background'},
}
UPWARD = {('finder', 'plot'), ('finder', 'explorer'), ('finder', 'live'), ('repeat', 'plot'), ('repeat', 'explorer'), ('train', 'plot'), ('train', 'live'), ('finder', 'train'), ('repeat', 'train')}      # inside methods


def imported(path):
    "(modules of this package, others) that the code at `path` imports anywhere"
    inner, outer = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): outer |= {a.name.split('.')[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ''
            if node.level or name.startswith('lrfinder_nb'): inner.add(name.removeprefix('lrfinder_nb.'))
            else: outer.add(name.split('.')[0])
    return inner, outer


def test_every_module_is_known(): assert {p.stem for p in HOME.glob('[a-z]*.py')} == set(MAY)


@pytest.mark.parametrize('module', MAY)
def test_imports_point_down(module):
    inner, outer = imported(HOME/f'{module}.py')
    assert inner - {b for a, b in UPWARD if a == module} <= MAY[module]
    if module in CORE: assert not outer & {'torch', 'torchvision', 'matplotlib', 'ipywidgets', 'IPython', 'fastprogress', 'fastcore'}
    assert 'fastcore' not in outer and 'nbdev' not in outer       # tools of development, not of users


@pytest.mark.parametrize('first', ['import lrfinder_nb.plot', 'from lrfinder_nb import LRFinder', 'import lrfinder_nb.diagnose, lrfinder_nb.consensus'])
def test_a_module_does_not_hide_its_function(first):
    code = f'{first}; from lrfinder_nb import diagnose, consensus; import lrfinder_nb; assert callable(diagnose) and callable(lrfinder_nb.consensus)'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_the_explorer_needs_no_torch():
    subprocess.run([sys.executable, '-c', 'import sys, lrfinder_nb.explorer; assert not {"torch", "matplotlib"} & sys.modules.keys()'], check=True)


def test_without_ipywidgets_there_is_a_sentence():
    code = 'import sys; sys.modules["ipywidgets"] = None\ntry: from lrfinder_nb import LRExplorer\nexcept ImportError as e: print(e)'
    assert 'the explorer needs ipywidgets, which is not installed: pip install ipywidgets' in subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True).stdout
