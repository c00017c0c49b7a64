"""finder_for without the libraries: what it loads, and what it says of objects that it does not know"""
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from lrfinder_nb import finder_for

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(p.stem for p in (ROOT/'lrfinder_nb/adapters').glob('[a-z]*.py'))
FRAMEWORKS = ('transformers', 'lightning', 'pytorch_lightning', 'fastai', 'fastcore', 'accelerate', 'skorch', 'ignite',
              'timm', 'dask', 'distributed', 'cloudpickle')


def test_the_adapters_load_no_framework():
    names = ', '.join(f'lrfinder_nb.adapters.{name}' for name in MODULES)
    code = f'import sys, lrfinder_nb.adapters, {names}; print(*{{name.partition(".")[0] for name in sys.modules}})'
    run = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert not set(FRAMEWORKS) & set(run.stdout.split())


@pytest.mark.parametrize('thing', [nn.Linear(2, 2), None, 3, 'trainer', [1]])
def test_an_object_of_no_known_kind_is_told_the_kinds(thing):
    with pytest.raises(TypeError, match='finder_for takes a transformers Trainer.*got ' + type(thing).__name__) as e:
        finder_for(thing)
    assert str(e.value).count('. ') == 0 and 'LRFinder' in str(e.value)
