"""The same front end in every host: a rate that a slider moves, and it is the library's"""
import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from lab import Notebook, Panel, free_port, running, serving

from lrfinder_nb.core.suggest import analyse

ROOT = Path(__file__).resolve().parents[2]
CELL = '''
from lrfinder_nb import LRExplorer, load_curve
explorer = LRExplorer(load_curve('curve.json'))
explorer'''
MARIMO = '''
import marimo
app = marimo.App()

@app.cell
def _():
    from lrfinder_nb import LRExplorer, load_curve
    explorer = LRExplorer(load_curve('curve.json'))
    explorer
    return (explorer,)

if __name__ == '__main__': app.run()
'''
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'none'"
PAGE = ('<!doctype html><html lang="en"><title>t</title><main id="place"></main>'
        '<script type="module" src="start.js"></script></html>')
START = """import {render, recorded} from './front.js'
import data from './frames.js'
render({model: recorded(data), el: document.getElementById('place')})
"""


def wait(page, true, what):
    "Until `true()` holds"
    for _ in range(1000):
        if true(): return
        page.wait_for_timeout(30)
    raise AssertionError(what() if callable(what) else what)


def moves(page, curve, box):
    "A key on a slider and a click on a rule move the rate to what the library says"
    rate = box.locator('.lrx-answer .lrx-rate')
    rate.wait_for()
    says = lambda **settings: f'lr {analyse(curve, **settings).suggestion.lr:.1e}'
    wait(page, lambda: rate.text_content() == says(), rate.text_content)
    handle = box.get_by_role('slider', name='beta', exact=True)
    field = box.get_by_role('spinbutton', name='beta, as a number')
    before = float(field.input_value())
    for _ in range(3): handle.press('ArrowLeft')
    wait(page, lambda: float(field.input_value()) < before, 'the number follows the key')
    wait(page, lambda: rate.text_content() == says(beta=float(field.input_value())), rate.text_content)
    box.get_by_role('radio', name='steepest', exact=True).check()
    steepest = lambda: says(beta=float(field.input_value()), rule='steepest')
    wait(page, lambda: rate.text_content() == steepest(), rate.text_content)


def test_notebook_7(tools, curve, lab, new_page, tmp_path, shots):
    if find_spec('notebook') is None: pytest.skip('no notebook (pip install notebook)')
    with serving(tmp_path, 'notebook') as classic:
        shutil.copy(lab.folder/'curve.json', classic.folder)
        classic.write('one.ipynb', CELL)
        nb = Notebook(classic, new_page(), 'one.ipynb')
        nb.run_all()
        panel = Panel(nb, 'explorer')
        moves(nb.page, curve, panel.box)
        nb.page.screenshot(path=shots/'host-notebook.png')
        assert nb.twins.count() == 1 and not nb.twins.is_visible()


def test_marimo(tools, curve, lab, new_page, tmp_path, shots):
    if find_spec('marimo') is None: pytest.skip('no marimo (pip install marimo)')
    (tmp_path/'app.py').write_text(MARIMO)
    shutil.copy(lab.folder/'curve.json', tmp_path)
    port, page = free_port(), new_page()
    there = partial(build_opener(ProxyHandler({})).open, f'http://127.0.0.1:{port}/', timeout=5)
    command = ['marimo', '-q', '-y', 'run', 'app.py', '--headless', '--port', str(port), '--no-token']
    with running(command, tmp_path/'log', there, cwd=tmp_path):
        page.goto(f'http://127.0.0.1:{port}/')
        box = page.locator('.lrx')
        moves(page, curve, box)
        page.screenshot(path=shots/'host-marimo.png')
        page.errors[:] = [e for e in page.errors if 'lrx' in e or 'front' in e]      # not those of the host


class Strict(SimpleHTTPRequestHandler):
    "Files under a policy that forbids inline scripts and styles, eval, and requests to elsewhere"
    def end_headers(self):
        self.send_header('Content-Security-Policy', POLICY)
        super().end_headers()

    def log_message(self, *args): pass


@pytest.fixture
def strict(curve, tmp_path, monkeypatch):
    "URL of a page with recorded frames under a strict policy"
    monkeypatch.syspath_prepend(ROOT/'docs')
    import tryit
    from lrfinder_nb import LRExplorer
    monkeypatch.setattr(tryit, 'BETAS', ())
    monkeypatch.setattr(tryit, 'THRESHOLDS', (2., 4.))
    data = tryit.recorded(LRExplorer(curve))
    shutil.copy(ROOT/'lrfinder_nb/show/front.js', tmp_path)
    (tmp_path/'index.html').write_text(PAGE)
    (tmp_path/'start.js').write_text(START)
    (tmp_path/'frames.js').write_text(f'export default {json.dumps(data)}')
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Strict, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


# empty messages that follow a question whose answer comes after `delay` milliseconds
SENT = """async delay => {
  const [{render, recorded}, data] = await Promise.all(['front.js', 'frames.js'].map(f => import(new URL(f, location))))
  const model = recorded(data.default), answer = model.save_changes.bind(model), el = document.createElement('div')
  const pause = () => new Promise(done => setTimeout(done, 300))
  let sent = 0
  Object.assign(model, {send: () => sent += 1, save_changes: () => setTimeout(answer, delay)})
  document.body.append(el)
  render({model, el})
  await pause()      // it asks for its width first
  sent = 0
  el.querySelector('input[type=range]').dispatchEvent(new Event('input'))
  await pause()
  return sent }"""


def test_an_open_question_is_followed_by_one_empty_message(new_page, strict):
    page = new_page()
    page.goto(strict)
    page.locator('.lrx-rate').wait_for()
    assert [page.evaluate(SENT, delay) for delay in (0, 100)] == [0, 1]


def test_strict_policy_and_no_kernel(strict, curve, new_page, shots):
    "A page with recorded frames works under a strict policy, and offers nothing that needs a kernel"
    page = new_page()
    page.goto(strict)
    rate = page.locator('.lrx-rate')
    rate.wait_for()
    assert rate.text_content() == f'lr {analyse(curve).suggestion.lr:.1e}'
    says = lambda **settings: rate.text_content() == f'lr {analyse(curve, **settings).suggestion.lr:.1e}'
    for rule in ('steepest', 'valley'):
        page.get_by_role('radio', name=rule).check()
        wait(page, lambda: says(rule=rule), rate.text_content)
    page.get_by_role('slider', name='diverge_threshold').press('Home')
    wait(page, lambda: says(rule='valley', diverge_threshold=2), rate.text_content)
    assert page.get_by_role('button').all_text_contents() == ['Reset']
    page.screenshot(path=shots/'host-page.png')


@pytest.mark.parametrize('scheme,forced', [('light', 'none'), ('dark', 'none'), ('dark', 'active')])
def test_axe(strict, new_page, shots, scheme, forced):
    "No serious finding in the panel, in light, dark and forced colours"
    from axe_playwright_python.sync_playwright import Axe
    page = new_page(color_scheme=scheme, forced_colors=forced, bypass_csp=True)
    page.goto(strict)
    colours = 'body{background:Canvas;color:CanvasText}'
    page.add_style_tag(content=f':root{{color-scheme:{scheme}}} {colours}')
    page.locator('.lrx-rate').wait_for()
    found = Axe().run(page, context='.lrx', options=dict(resultTypes=['violations'])).response['violations']
    grave = [v for v in found if v['impact'] in ('serious', 'critical')]
    page.screenshot(path=shots/f'axe-{scheme}-{forced}.png')
    assert not [f"{v['id']}: {n['html'][:120]}" for v in grave for n in v['nodes']]


@pytest.mark.parametrize('width', [320, 800, 3840])
def test_widths(strict, new_page, shots, width):
    "Nothing is cut off, from a telephone to a wall"
    page = new_page()
    page.set_viewport_size(dict(width=width, height=1000))
    page.goto(strict)
    page.locator('.lrx-rate').wait_for()
    page.screenshot(path=shots/f'width-{width}.png')
    assert page.evaluate('document.documentElement.scrollWidth') <= width
