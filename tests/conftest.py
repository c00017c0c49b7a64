"""Every sweep of a test is checked: what it has changed and not put back is an error, unless a test says otherwise"""
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

# a run in the background of a shell ignores Ctrl-C, and so would every process that a test starts and interrupts
with suppress(ValueError): signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def checked(monkeypatch, request):
    "`check=True` where a test of this folder does not pass `check`; other libraries make no such promise"
    module = sys.modules.get('lrfinder_nb.engine.finder')
    if module is None or request.path.parent != Path(__file__).parent: return
    monkeypatch.setitem(module.LRFinder.range_test.__kwdefaults__, 'check', True)
