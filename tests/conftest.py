"""Every sweep of a test is checked: what it has changed and not put back is an error, unless a test says otherwise"""
import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def checked(monkeypatch, request):
    "`check=True` where a test of this folder does not pass `check`; other libraries make no such promise"
    module = sys.modules.get('lrfinder_nb.engine.finder')
    if module is None or request.path.parent != Path(__file__).parent: return
    monkeypatch.setitem(module.LRFinder.range_test.__kwdefaults__, 'check', True)
