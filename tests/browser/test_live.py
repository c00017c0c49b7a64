"""A sweep that can be watched and stopped, in the cell and in the background"""
import re

import pytest
from lab import Notebook, Panel, fresh_page, said

SETUP = '''
import copy, time, torch
from torch import nn
from lrfinder_nb import LRFinder
torch.manual_seed(0)
x = torch.randn(64, 8); y = x[:, :1].tanh()
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
before = copy.deepcopy(model.state_dict())
finder = LRFinder(model, torch.optim.AdamW(model.parameters()), nn.functional.mse_loss)
def slow():
    while True: time.sleep(.02); yield x, y
def same(): return all(torch.equal(before[k], v) for k, v in model.state_dict().items())
'''
THEN = "print('then:', finder.curve.ended, 5 < len(finder.curve) < 1400, same())"
BACKGROUND = [SETUP, 'finder.range_test(slow(), num_iter=1500, background=True)']
IN_CELL = [SETUP, 'finder.range_test(slow(), num_iter=1500)', THEN, 'finder.range_test([(x, y)], num_iter=100)']
FOREGROUND = [SETUP, 'finder.range_test(slow(), num_iter=1500)', THEN]
TRAINING = '''
from lrfinder_nb import fit_one_cycle
batches, optimizer = [(x, y)]*20, torch.optim.AdamW(model.parameters())
history = fit_one_cycle(model, optimizer, nn.functional.mse_loss, batches, batches[:1], max_lr=1e-2, epochs=3)
history'''


@pytest.fixture(scope='module')
def notebook(lab, browser):
    lab.write('live.ipynb', *BACKGROUND, *IN_CELL)
    nb = Notebook(lab, fresh_page(browser), 'live.ipynb')
    yield nb
    nb.page.context.close()


@pytest.fixture
def nb(notebook):
    yield notebook
    assert not said([notebook.page])


def growing(nb):
    "The display of a sweep, once it has been seen to grow"
    box = nb.page.locator('.lrx').last
    svg = box.locator('svg[role=img]')
    svg.wait_for()
    pictures = set()
    grown = lambda: pictures.add(svg.evaluate('e => e.outerHTML')) or len(pictures) >= 2
    nb.until(grown, 'the picture grows')
    step = lambda: re.search(r'step (\d+) of 1500: lr', box.inner_text())
    nb.until(lambda: int((step() or [0, 0])[1]) >= 60, 'enough points to read a rate from')
    assert box.locator('progress').count() == 1
    return box


def test_background(nb, shots):
    "The cell returns at once; Stop keeps the curve so far and puts the model back"
    nb.run(0, 1)
    box = growing(nb)
    assert nb.ask('finder._task.running')
    nb.page.screenshot(path=shots/'live-background.png')
    box.get_by_role('button', name='Stop').click()
    panel = Panel(nb, 'finder', -1)
    panel.rate.wait_for()
    ended = lambda: nb.ask('[finder.curve.ended, 5 < len(finder.curve) < 1400, same()]')
    nb.until(lambda: ended() == ['stopped', True, True], ended)
    rate = nb.ask("'no suggestion' if finder.problem else f'lr {finder.suggestion.lr:.1e}'")
    twin = nb.twins.last
    told = lambda: panel.rate.text_content() == rate and rate in twin.get_attribute('alt')
    nb.until(told, lambda: f'{rate}, not {panel.answer()}')
    assert not twin.is_visible()
    nb.page.screenshot(path=shots/'live-stopped.png')


def test_in_the_cell(nb, shots):
    "The notebook's own stop button ends a sweep without a traceback, and the finder follows the sliders"
    explorers = nb.page.locator('.lrx-answer .lrx-rate')
    before = explorers.count()
    nb.run(2, 3, 4, 5)
    box = growing(nb)
    assert box.get_by_role('button', name='Stop').is_visible() or 'stop button' in box.inner_text()
    nb.page.screenshot(path=shots/'live-cell.png')
    nb.menu('Kernel', 'Interrupt Kernel')
    nb.page.get_by_text('then: stopped True True', exact=True).wait_for()
    for kind in ('error', 'stderr'):
        assert not nb.page.locator(f'[data-mime-type="application/vnd.jupyter.{kind}"]').count()
    nb.until(lambda: explorers.count() == before + 2, 'both sweeps become explorers')
    panel, rate = Panel(nb, 'finder', -1), lambda: f"lr {nb.ask('finder.suggestion.lr'):.1e}"
    nb.until(lambda: panel.rate.text_content() == rate(), lambda: f'{rate()}, not {panel.answer()}')
    begin = rate()
    panel.rule('valley').check()
    nb.until(lambda: panel.rate.text_content() != begin, panel.answer)
    assert rate() == begin
    panel.button('Use this rate').click()
    nb.until(lambda: rate() == panel.rate.text_content(), rate)
    panel.rate.scroll_into_view_if_needed()
    nb.page.screenshot(path=shots/'live-ended.png')


def test_stop_in_the_foreground(nb):
    "Where the kernel hears the page while a cell runs, there is a button; elsewhere, words"
    nb.page.reload()
    nb.page.wait_for_selector('.jp-Notebook .jp-CodeCell')
    nb.lab.write('foreground.ipynb', *FOREGROUND)
    other = Notebook(nb.lab, nb.page, 'foreground.ipynb')
    other.run(0, 1, 2)
    box = growing(other)
    stop = box.get_by_role('button', name='Stop')
    if stop.is_visible(): stop.click()
    else:
        assert "the notebook's own stop button" in box.inner_text()
        other.menu('Kernel', 'Interrupt Kernel')
    other.page.get_by_text('then: stopped True True', exact=True).wait_for()


def test_a_training_shows_one_table(lab, new_page, shots):
    "The table of epochs is on the page once, where the history is shown"
    lab.write('training.ipynb', SETUP, TRAINING)
    nb = Notebook(lab, new_page(), 'training.ipynb')
    nb.run_all()
    nb.until(lambda: nb.page.get_by_text('completed after 3 epochs').count(), 'the training ends')
    nb.page.locator('.jp-OutputArea table').wait_for()
    nb.page.wait_for_timeout(300)
    assert nb.page.locator('.jp-OutputArea table:visible').count() == 1
    nb.page.screenshot(path=shots/'training.png')


REPEAT = '''
from pathlib import Path
from lrfinder_nb import repeat
begun, seen = Path('begun'), Path('seen')
begun.write_text('')
seen.unlink(missing_ok=True)
def make():
    begun.write_text(begun.read_text() + '.')
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    return model, torch.optim.AdamW(model.parameters())
class Batches:
    "The second run is slow until a file says that it was seen"
    def __iter__(self):
        for batch in slow():
            if begun.read_text() == '..' and not seen.exists(): time.sleep(.4)
            yield batch
runs = repeat(make, nn.functional.mse_loss, Batches(), runs=3, num_iter=60)
print('then:', len(runs))'''


def test_runs_grow(lab, new_page, shots):
    "Each finished run stays in the picture while the next one grows, and the end is told"
    lab.write('repeat.ipynb', SETUP, REPEAT)
    nb = Notebook(lab, new_page(), 'repeat.ipynb')
    nb.run_all()
    box = nb.page.locator('.lrx')
    nb.until(lambda: 'run 2 of 3' in box.inner_text() and box.locator('.of-run').count() == 1, box.inner_text)
    nb.page.screenshot(path=shots/'live-runs.png')
    (lab.folder/'seen').touch()
    nb.page.get_by_text('then: 3', exact=True).wait_for()
    nb.until(lambda: '3 of 3 runs' in box.inner_text() and box.locator('.of-run').count() == 3, box.inner_text)
    assert not box.locator('progress').is_visible()
