"""How fast the explorer follows a slider

    python benchmarks/explorer.py            the kernel's part: time and bytes of an update
    python benchmarks/explorer.py --browser  the whole way too, to the pixels of a JupyterLab in Chromium

Either prints a table and writes benchmarks/results/explorer.json. Times of the kernel's part are CPU times. In the browser all times are taken
by the page itself, from its key or mouse event until the frame with the new picture is painted. What is drawn when the sliders have rested (the
interval and the diagnosis) is not counted.
"""
import json, os, platform, sys, tempfile, time
from datetime import date
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path

import numpy as np

HOME = Path(__file__).resolve().parent
sys.path.insert(0, str(HOME.parent/'tests'/'browser'))
from lab import Notebook, Panel, browsing, fresh_page, serving
from overhead import processor

from lrfinder_nb.core.curve import LossCurve, save_curve
from lrfinder_nb.show.explorer import LRExplorer

POINTS, MOVES, PRESSES, DRAGS = 1000, 60, 40, 5
CELL = "from lrfinder_nb.core.curve import load_curve\nfrom lrfinder_nb.show.explorer import LRExplorer\nexplorer = LRExplorer({})\nexplorer"
CLOCK = "() => { for (const e of ['keydown', 'pointermove']) addEventListener(e, () => window.touched = performance.now(), true) }"


def curve(seed=0, n=POINTS):
    "A noisy sweep of `n` points"
    x = np.linspace(-7, 1, n)
    return LossCurve(10**x, 2.3 - 1.5/(1 + np.exp(-3*(x + 3))) + np.maximum(0, x + 1)**2 + np.random.default_rng(seed).normal(0, .02, n))


# ---- the kernel's part

def walk(control):
    "Values that a control can be moved over: numbers that were not there before, or options there and back"
    if hasattr(control, 'options'):
        values = [v[1] if isinstance(v, tuple) else v for v in control.options]
        return [*islice(cycle([*values, *values[-2:0:-1]]), MOVES)]
    kind = type(control.value)
    return [kind(v) for v in np.linspace(control.min, control.max*(.5 if kind is int else 1), MOVES).round(3)]


def moves(curves):
    "By control, (milliseconds, bytes) of each move"
    e, found = LRExplorer(curves), {}
    for name, control in e.controls.items():
        for value in walk(control):
            if value == control.value: continue
            start = time.process_time()
            control.value = value
            found.setdefault(name, []).append((1e3*(time.process_time() - start), len((e.picture.value + e.answer.value).encode())))
        e.reset()
        e.settle()
    return {name: np.array(rows) for name, rows in found.items()}


# ---- the whole way

def open_explorer(lab, browser, runs):
    "An explorer of `runs` curves on a page of its own, at rest"
    for i in range(runs): save_curve(curve(i), lab.folder/f'{i}.json')
    loads = [f"load_curve('{i}.json')" for i in range(runs)]
    lab.write(f'{runs}.ipynb', CELL.format(loads[0] if runs == 1 else f"[{', '.join(loads)}]"))
    nb = Notebook(lab, fresh_page(browser), f'{runs}.ipynb')
    nb.run_all()
    panel = Panel(nb, 'explorer')
    panel.page.evaluate(CLOCK)
    rest(panel)
    return panel


def rest(panel): panel.notebook.until(lambda: panel.answer()[1], 'the interval')


def changed(seen):
    "What was seen, where the picture was new and without an interval"
    return [s for last, s in zip([dict(picture=0)] + seen, seen) if s['picture'] != last['picture'] and not s['band'] and 'painted' in s]


def press(panel):
    "Milliseconds from each key press to the pixels; the next follows before the sliders rest"
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
    box = panel.slider('beta')[0].bounding_box()
    x, y, start = box['x'] + box['width']/2, box['y'] + box['height']/2, time.perf_counter()
    while (t := time.perf_counter() - start) < seconds: panel.page.mouse.move(x - 90*(1 - abs(1 - 2*t/seconds)), y)
    last = panel.page.evaluate('window.touched')
    panel.page.mouse.up()
    rest(panel)
    seen = changed(panel.seen())
    return len(seen)/seconds, max(0, seen[-1]['painted'] - last)


def in_browser(row):
    "Measure in JupyterLab; versions of what took part"
    with tempfile.TemporaryDirectory() as root, serving(Path(root)) as lab, browsing() as browser:
        for runs, what in ((1, f'{POINTS} points'), (5, f'5 × {POINTS} points')):
            panel = open_explorer(lab, browser, runs)
            row('key press to pixels', what, press(panel), 'ms', 60)
            rates, lags = zip(*(drag(panel) for _ in range(DRAGS)))
            row('pictures in a drag', what, rates, 'a second', 12, atleast=True)
            row('last move to last picture', what, lags, 'ms', 200)
            assert not panel.page.errors, panel.page.errors
            panel.page.context.close()
        return {k: version(k) for k in ('jupyterlab', 'ipykernel')} | dict(chromium=browser.version)


# ---- the report

def main(args):
    "Measure, print the table and write it to `results/explorer.json`"
    versions, rows, load = {k: version(k) for k in ('ipywidgets', 'numpy')}, [], round(os.getloadavg()[0], 1)

    def row(what, who, values, unit, target=None, p95=None, atleast=False):
        mid, high = (round(float(q), 1) for q in np.quantile(values, [.5, .95]))
        rows.append(dict(measure=what, of=who, median=mid, p95=high, unit=unit, target=target, p95_target=p95))
        sign = '≥' if atleast else '≤'
        print(f"| {what} | {who} | {mid} {unit} | {high} | {'' if target is None else f'{sign} {target}'}{'' if p95 is None else f', {sign} {p95}'} |", flush=True)

    print('| measure | of | median | 95 % | target |\n|---|---|---|---|---|')
    for what, curves, targets in ((f'{POINTS} points', curve(), (5, 10)), (f'5 × {POINTS} points', [curve(i) for i in range(5)], (10, 20))):
        found = moves(curves)
        ms, size = np.concatenate([*found.values()]).T
        row('a move in the kernel', f'{what}, all controls', ms, 'ms', *targets)
        for name, each in found.items(): row('a move in the kernel', f'{what}, {name}', each[:, 0], 'ms')
        row('an update', what, size/1024, 'KiB', 40)
    if '--browser' in args: versions |= in_browser(row)

    body = dict(date=str(date.today()), cpu=processor(), cores=os.cpu_count(), load_before=load, python=platform.python_version(), versions=versions, results=rows)
    path = HOME/'results'/'explorer.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


if __name__ == '__main__': main(sys.argv[1:])
