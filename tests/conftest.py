"""Every sweep of a test is checked: what it has changed and not put back is an error, unless a test says otherwise"""
import sys

import pytest


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    "`check=True` where a test does not pass `check`"
    module = sys.modules.get('lrfinder_nb.engine.finder')
    if module: monkeypatch.setitem(module.LRFinder.range_test.__kwdefaults__, 'check', True)
