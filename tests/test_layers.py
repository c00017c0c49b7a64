"""The folders are layers: an import points along the arrows of this table only"""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'docs'))
from layers import arrows, drawn, modules, outside  # noqa: E402

MAY = {
    'core': set(),
    'show': {'core'},
    'engine': {'core'},
    'train': {'core', 'engine'},
    'project': {'', 'core', 'show', 'engine', 'train'},       # '': the package itself, for its version
    'adapters': {'core', 'engine'},
}
UPWARD = {      # inside methods: what users hold draws and trains, a script loads no pictures and no widgets
    ('engine.finder', 'show.plot'), ('engine.finder', 'show.explorer'), ('engine.progress', 'show.live'),
    ('engine.finder', 'show.plot_trials'), ('engine.finder', 'train.one_cycle'),
    ('engine.verify', 'train.one_cycle'), ('engine.callbacks', 'train.callbacks'),
    ('engine.repeat', 'show.plot'), ('engine.repeat', 'show.explorer'), ('engine.repeat', 'train.one_cycle'),
    ('engine.compare', 'show.plot'), ('engine.runs', 'show.live_runs'),
    ('train.history', 'show.plot'), ('train.callbacks', 'show.live'),
}
FOUND = modules()


def against(found):
    "Arrows that the table does not allow"
    return {(a, b) for a, b in found if b.split('.')[0] not in MAY[a.split('.')[0]]}


def fresh(code):
    "What a new interpreter prints that runs `code`"
    run = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True, cwd=ROOT)
    return run.stdout


def test_every_folder_is_known():
    assert {name.split('.')[0] for name in FOUND} <= set(MAY)
    assert {p.parent.name for p in (ROOT/'nbs').glob('*/[0-9]*.ipynb')} <= set(MAY)


def test_imports_point_down(): assert not against(arrows(FOUND))


def test_what_reaches_up_is_listed(): assert against(arrows(FOUND, inside=True)) == UPWARD


@pytest.mark.parametrize('folder', MAY)
def test_no_tool_of_development_is_needed(folder):
    assert not outside(FOUND, folder) & {'fastcore', 'nbdev', 'execnb'}


def test_core_needs_numpy_alone():
    assert outside(FOUND, 'core') == {'numpy'}
    names = ', '.join(f'lrfinder_nb.{name}' for name in FOUND if name.startswith('core.'))
    loaded = fresh(f'import sys, {names}; print(*sys.modules)').split()
    assert not {'torch', 'torchvision', 'matplotlib', 'ipywidgets', 'IPython'} & set(loaded)


@pytest.mark.parametrize('planted, fault', [
    ('from ..engine.finder import LRFinder', ('core.curve', 'engine.finder')),
    ('from lrfinder_nb.show import plot', ('core.curve', 'show')),
    ('import lrfinder_nb.show.plot', ('core.curve', 'show.plot')),
    ('from .. import LRFinder', ('core.curve', 'engine.finder'))])
def test_a_forbidden_arrow_is_seen(tmp_path, planted, fault):
    (tmp_path/'lrfinder_nb/core').mkdir(parents=True)
    (tmp_path/'lrfinder_nb/core/curve.py').write_text(planted)
    assert against(arrows(modules(tmp_path/'lrfinder_nb'))) == {fault}


def test_the_table_of_folders_in_contributing_is_that_of_the_code():
    assert drawn() == (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8'), 'run python docs/layers.py'


# Names and what they load

@pytest.mark.parametrize('first', [
    'import lrfinder_nb.show.plot', 'from lrfinder_nb import LRFinder',
    'import lrfinder_nb.core.diagnose, lrfinder_nb.core.consensus'])
def test_a_module_does_not_hide_its_function(first):
    fresh(f'{first}; from lrfinder_nb import diagnose, consensus; import lrfinder_nb; '
          'assert callable(diagnose) and callable(lrfinder_nb.consensus)')


def test_the_explorer_needs_no_torch():
    fresh('import sys, lrfinder_nb.show.explorer; assert not {"torch", "matplotlib"} & sys.modules.keys()')


def test_without_ipywidgets_there_is_a_sentence():
    said = fresh('import sys; sys.modules["ipywidgets"] = None\n'
                 'try: from lrfinder_nb import LRExplorer\n'
                 'except ImportError as e: print(e)')
    assert 'the explorer needs ipywidgets, which is not installed: pip install ipywidgets' in said
