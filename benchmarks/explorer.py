"""How fast the explorer follows a hand

    python benchmarks/explorer.py            the kernel's part: time and bytes of a move, and the time to rest
    python benchmarks/explorer.py --browser  the whole way too, to the pixels of a JupyterLab in Chromium

Either prints a table and writes benchmarks/results/explorer.json. Times of the kernel's part are CPU times. In the
browser all times are taken by the page itself, from its key or mouse event until the frame with the new picture is
painted. What is drawn when the controls have rested (the interval and the diagnosis) is not counted there.
"""
import json
import os
import platform
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path

import numpy as np

HOME = Path(__file__).resolve().parent
sys.path.insert(0, str(HOME.parent/'tests'/'browser'))
from lab import Notebook, Panel, browsing, fresh_page, serving
from report import processor

from lrfinder_nb.core.curve import LossCurve, save_curve
from lrfinder_nb.show.explorer import LRExplorer

MOVES, PRESSES, DRAGS = 60, 40, 5
CELL = '''
from lrfinder_nb import LRExplorer, load_curve
explorer = LRExplorer({})
explorer'''
CLOCK = """() => {
  for (const e of ['keydown', 'pointermove']) addEventListener(e, () => window.touched = performance.now(), true) }"""
ECHO = '''
import anywidget, traitlets
class Echo(anywidget.AnyWidget):
    _esm = """export default {render({model, el}) {
      const field = document.createElement('input')
      field.className = 'echo'
      field.setAttribute('data-lm-suppress-shortcuts', 'true')
      el.append(field)
      field.addEventListener('keydown', () => {
        window.touched = performance.now()
        model.set('asked', model.get('asked') + 1)
        model.save_changes()
      })
      model.on('change:answered', () => {
        field.value = model.get('answered')
        requestAnimationFrame(() => {
          const c = new MessageChannel()
          c.port1.onmessage = () => window.waited = performance.now() - window.touched
          c.port2.postMessage(0)
        })
      })
    }}"""
    asked, answered = traitlets.Int().tag(sync=True), traitlets.Int().tag(sync=True)
    @traitlets.observe('asked')
    def answer(self, change): self.answered = change.new
Echo()'''
CASES = dict(one=(1000, 1), many=(10_000, 1), several=(1000, 5))
LIMITS = dict(one=dict(move=(5, 10), size=10, key=(40, 80), rest=150),
              many=dict(move=(None, None), size=12, key=(70, 100), rest=150),
              several=dict(move=(10, 20), size=40, key=(60, None), rest=None))


def named(case): return '{1} × {0:,} points'.format(*CASES[case]).removeprefix('1 × ')


def curve(seed=0, n=1000):
    "A noisy sweep of `n` points"
    x = np.linspace(-7, 1, n)
    y = 2.3 - 1.5/(1 + np.exp(-3*(x + 3))) + np.maximum(0, x + 1)**2
    return LossCurve(10**x, y + np.random.default_rng(seed).normal(0, .02, n))


def curves(case):
    points, runs = CASES[case]
    found = [curve(i, points) for i in range(runs)]
    return found if runs > 1 else found[0]


# ---- the kernel's part

def walk(control):
    "Values that a control can be moved over: numbers that were not there before, or options there and back"
    if control.options: return [*islice(cycle([*control.options, *[*control.options][-2:0:-1]]), MOVES)]
    values = np.linspace(control.min, control.max*(.5 if isinstance(control.step, int) else 1), MOVES)
    return [type(control.value)(v) for v in values.round(3)]


def moves(case):
    "By control, (milliseconds, bytes) of each move"
    explorer, found, sent = LRExplorer(curves(case)), {}, []
    explorer.front._send = lambda message, buffers=None: sent.append(len(json.dumps(message).encode()))
    for name, control in explorer.controls.items():
        for value in walk(control):
            if value == control.value: continue
            sent.clear()
            start = time.process_time()
            control.value = value
            found.setdefault(name, []).append((1e3*(time.process_time() - start), sum(sent)))
        explorer.reset()
        explorer.settle()
    return {name: np.array(rows) for name, rows in found.items()}


def rests(case):
    "Milliseconds from rest to the interval, for several positions"
    explorer, found = LRExplorer(curves(case)), []
    for n in range(5, 15):
        explorer.controls['skip_end'].value = n
        start = time.process_time()
        explorer.settle(rows=False)
        found.append(1e3*(time.process_time() - start))
    return found


# ---- the whole way

def open_explorer(lab, browser, case):
    "An explorer on a page of its own, at rest"
    points, runs = CASES[case]
    for i in range(runs): save_curve(curve(i, points), lab.folder/f'{case}{i}.json')
    loads = [f"load_curve('{case}{i}.json')" for i in range(runs)]
    lab.write(f'{case}.ipynb', CELL.format(loads[0] if runs == 1 else f"[{', '.join(loads)}]"))
    nb = Notebook(lab, fresh_page(browser), f'{case}.ipynb')
    nb.run_all()
    panel = Panel(nb, 'explorer')
    panel.page.evaluate(CLOCK)
    rest(panel)
    return panel


def rest(panel): panel.notebook.until(panel.rested, 'rest')


def changed(seen):
    "What was seen, where the picture was new and not at rest"
    pairs = zip([dict(picture=0)] + seen, seen)
    return [s for last, s in pairs if s['picture'] != last['picture'] and not s['rest'] and 'painted' in s]


def press(panel):
    "Milliseconds from each key press to the pixels; the next follows before the controls rest"
    found, keys = [], ['ArrowLeft']*(PRESSES//2) + ['ArrowRight']*(PRESSES//2)
    handle, _ = panel.slider('beta')
    for key in keys:
        panel.watch()
        handle.press(key)
        panel.notebook.until(lambda: changed(panel.seen()), 'the picture changes')
        found.append(changed(panel.seen())[0]['painted'] - panel.page.evaluate('window.touched'))
    rest(panel)
    return found


def drag(panel, seconds=2.):
    "(pictures a second, milliseconds from the last move to the last change) of one drag there and back"
    panel.drag('beta', 0, 1)
    panel.watch()
    x, y = panel.grip('beta')
    start = time.perf_counter()
    while (t := time.perf_counter() - start) < seconds: panel.page.mouse.move(x - 90*(1 - abs(1 - 2*t/seconds)), y)
    last = panel.page.evaluate('window.touched')
    panel.page.mouse.up()
    rest(panel)
    seen = changed(panel.seen())
    return len(seen)/seconds, max(0, seen[-1]['painted'] - last)


def echoes(lab, browser):
    "Milliseconds from each key press to the pixels of a plain widget whose kernel sends the number back"
    lab.write('echo.ipynb', ECHO)
    nb = Notebook(lab, fresh_page(browser), 'echo.ipynb')
    nb.run_all()
    field, found = nb.page.locator('input.echo'), []
    field.wait_for()
    for _ in range(PRESSES):
        nb.page.evaluate('window.waited = 0')
        field.press('ArrowRight')
        nb.page.wait_for_function('window.waited')
        found.append(nb.page.evaluate('window.waited'))
    nb.page.context.close()
    return found


def in_browser(row):
    "Measure in JupyterLab; versions of what took part"
    with tempfile.TemporaryDirectory() as root, serving(Path(root)) as lab, browsing() as browser:
        row('key press to pixels', 'a plain widget that sends a number back', echoes(lab, browser), 'ms')
        for case in CASES:
            panel, what = open_explorer(lab, browser, case), named(case)
            row('key press to pixels', what, press(panel), 'ms', *LIMITS[case]['key'])
            rates, lags = zip(*(drag(panel) for _ in range(DRAGS)))
            row('pictures in a drag', what, rates, 'a second', 12, atleast=True)
            row('last move to last picture', what, lags, 'ms', 200)
            assert not panel.page.errors, panel.page.errors
            panel.page.context.close()
        return {k: version(k) for k in ('jupyterlab', 'ipykernel')} | dict(chromium=browser.version)


# ---- the report

def reporter(rows):
    "A function that takes down a measure and prints it"
    def row(what, who, values, unit, target=None, p95=None, atleast=False):
        mid, high = (round(float(q), 1) for q in np.quantile(values, [.5, .95]))
        rows.append(dict(measure=what, of=who, median=mid, p95=high, unit=unit, target=target, p95_target=p95))
        sign = '≥' if atleast else '≤'
        targets = ', '.join(f'{sign} {t}' for t in (target, p95) if t is not None)
        print(f'| {what} | {who} | {mid} {unit} | {high} | {targets} |', flush=True)
    return row


def main(args):
    "Measure, print the table and write it to `results/explorer.json`"
    versions, rows, load = {k: version(k) for k in ('anywidget', 'numpy')}, [], round(os.getloadavg()[0], 1)
    row = reporter(rows)
    print('| measure | of | median | 95 % | target |\n|---|---|---|---|---|')
    for case in CASES:
        what, found, limits = named(case), moves(case), LIMITS[case]
        ms, size = np.concatenate([*found.values()]).T
        row('a move in the kernel', f'{what}, all controls', ms, 'ms', *limits['move'])
        for name, each in found.items(): row('a move in the kernel', f'{what}, {name}', each[:, 0], 'ms')
        row('a move on the wire', what, size/1024, 'KiB', limits['size'])
        row('the interval at rest', what, rests(case), 'ms', limits['rest'])
    if '--browser' in args: versions |= in_browser(row)
    machine = dict(cpu=processor(), cores=os.cpu_count(), load_before=load, python=platform.python_version())
    body = dict(date=str(date.today()), **machine, versions=versions, results=rows)
    path = HOME/'results'/'explorer.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


if __name__ == '__main__': main(sys.argv[1:])
