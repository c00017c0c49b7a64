"""A server for all tests, a browser for each module, and errors that no page may have"""
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from lab import browsing, chromium, fresh_page, said, serving


@pytest.fixture(scope='session')
def tools():
    "A skip, or a failure where BROWSER_TESTS=required, that says what is missing"
    lacks = [f'no {m} (pip install {m})' for m in ('playwright', 'jupyterlab') if find_spec(m) is None]
    gone = ', '.join(lacks + ([] if chromium() else ['no chromium (apt-get install chromium)']))
    if gone and os.environ.get('BROWSER_TESTS') == 'required': pytest.fail(f'the browser tests cannot run: {gone}')
    if gone: pytest.skip(f'skipped the browser tests: {gone}')


@pytest.fixture(scope='session')
def lab(tools, tmp_path_factory):
    with serving(tmp_path_factory.mktemp('lab')) as lab: yield lab


@pytest.fixture(scope='session')
def curve(lab):
    "A sweep over the digits, saved beside the notebooks as curve.json"
    import torch
    from lrfinder_nb import LRFinder, SmallCNN, digits, set_seed
    torch.set_num_threads(1)
    set_seed(0)
    model = SmallCNN(channels=(8, 16))
    finder = LRFinder(model, torch.optim.AdamW(model.parameters()), torch.nn.CrossEntropyLoss())
    finder.range_test(digits()[0], progress=False)
    finder.save(lab.folder/'curve.json')
    return finder.curve


@pytest.fixture(scope='module')
def browser(tools):
    with browsing() as b: yield b


@pytest.fixture
def new_page(browser):
    "Makes pages, none of which may have errors"
    pages = []
    def make(**kw):
        pages.append(fresh_page(browser, **kw))
        return pages[-1]
    yield make
    errors = said(pages)
    for p in pages: p.context.close()
    assert not errors


@pytest.fixture
def shots(tmp_path):
    "Folder for screenshots"
    folder = Path(os.environ.get('BROWSER_SHOTS') or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
