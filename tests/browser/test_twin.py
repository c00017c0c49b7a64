"""A picture stands in wherever the widgets cannot live: reopened, untrusted, exported"""
import re

import nbformat
import pytest
from lab import Notebook, Panel, fresh_page, said
from nbconvert import HTMLExporter

CELL = '''
from lrfinder_nb import LRExplorer, load_curve
explorer = LRExplorer(load_curve('curve.json'))
explorer'''


@pytest.fixture(scope='module')
def saved(lab, curve, browser):
    "(file, rate) of a notebook that was saved after a slider was moved, and whose kernel is gone"
    lab.write('twin.ipynb', CELL)
    nb, path = Notebook(lab, fresh_page(browser), 'twin.ipynb'), lab.folder/'twin.ipynb'
    nb.run_all()
    panel = Panel(nb, 'explorer')
    assert nb.twins.count() == 1 and not nb.twins.is_visible()
    begin = panel.rate.text_content()
    panel.press('beta', 'PageDown', 'PageDown')
    nb.until(lambda: panel.rested() and panel.rate.text_content() != begin, panel.answer)
    rate = panel.rate.text_content()
    alt = lambda: nb.twins.get_attribute('alt')
    nb.until(lambda: rate in alt(), lambda: f'{rate}, not {alt()}')
    assert not nb.twins.is_visible()
    nb.command('docmanager:save')
    nb.until(lambda: rate in path.read_text(), 'the notebook is saved')
    assert not said([nb.page])
    nb.page.context.close()
    lab.stop_kernels()
    return path, rate


def check(twin, rate):
    "The picture is there, says the rate, and is not an empty box"
    twin.wait_for()
    assert twin.count() == 1 and rate in twin.get_attribute('alt')
    assert twin.evaluate('e => e.decode().then(() => e.naturalWidth)') > 500 and twin.bounding_box()['width'] > 500
    text = ' '.join(twin.page.locator('.jp-OutputArea').all_inner_texts()).lower()
    assert not any(w in text for w in ('model not found', 'error displaying', 'loading widget', 'lrexplorer('))


def test_one_rate(saved):
    "Nothing in the file says the rate of before the move"
    path, rate = saved
    assert {*re.findall(r'lr \d\.\de[-+]\d\d', path.read_text())} == {rate}


def test_reopened(lab, saved, new_page, shots):
    path, rate = saved
    nb = Notebook(lab, new_page(), path.name)
    check(nb.twins, rate)
    nb.page.screenshot(path=shots/'twin-reopened.png')


def test_untrusted(lab, saved, new_page, shots):
    path, rate = saved
    book = nbformat.read(path, 4)
    book.cells.append(nbformat.v4.new_markdown_cell('from elsewhere'))      # not what was signed
    nbformat.write(book, lab.folder/'elsewhere.ipynb')
    nb = Notebook(lab, new_page(), 'elsewhere.ipynb')
    assert not nb.page.evaluate('window.jupyterapp.shell.currentWidget.content.widgets[0].model.trusted')
    check(nb.twins, rate)
    nb.page.screenshot(path=shots/'twin-untrusted.png')


def test_exported(saved, new_page, shots, tmp_path):
    path, rate = saved
    page = new_page(offline=True)
    (tmp_path/'twin.html').write_text(HTMLExporter().from_filename(str(path))[0], encoding='utf-8')
    page.goto((tmp_path/'twin.html').as_uri())
    check(page.locator('img[src^="data:image/svg"]'), rate)
    page.screenshot(path=shots/'twin-exported.png')
