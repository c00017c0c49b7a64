"""The tool to try: the explorer over a recorded sweep, with frames in place of a kernel

    python docs/tryit.py        records the sweep in docs/data/sweep.json
"""
import base64
import gzip
import hashlib
import json
from itertools import product
from pathlib import Path

from cells import raw
from run_nbs import ROOT

SWEEP, FRONT = ROOT/'docs/data/sweep.json', ROOT/'lrfinder_nb/show/front.js'
BETAS, SKIPS, THRESHOLDS = (0, .5, .75, .92, .97), (0, 10, 20, 40), (1.2, 2, 4, 10)
FIXED = 'frame', 'width', 'hidden', 'view', 'hand', 'canLog', 'said', 'inUse', 'compared', 'rest'  # of a reading
GONE = 'n', 'smooth', 'perDecade', 'rate', 'line', 'can'  # what asks for a kernel


def key(*paths): return hashlib.sha256(b''.join(p.read_bytes() for p in paths)).hexdigest()


def tryit(built):
    "HTML of the tool; its frames go to try.js. They are made again when the library or the sweep changes"
    made, html = built/'try.js', built.parent/'try.html'
    stamp = key(SWEEP, FRONT, Path(__file__), *sorted((ROOT/'lrfinder_nb').rglob('*.py')))
    if not (made.exists() and html.exists() and made.read_text().startswith(f'// {stamp}')):
        from lrfinder_nb import LRExplorer, load_curve
        explorer = LRExplorer(load_curve(SWEEP), diverge_threshold=4)
        made.write_text(f'// {stamp}\n{script(recorded(explorer))}')
        explorer.reset()
        explorer.settle()
        html.write_text(page(explorer))
    return raw(html.read_text())


def positions(explorer):
    "All settings that the page offers, the first ones first"
    begin = explorer.settings
    betas = sorted({*BETAS, begin['beta']})
    rules = explorer.controls['rule'].options
    every = [dict(begin, beta=b, skip_start=s, diverge_threshold=t, rule=r)
             for b, t, s, r in product(betas, THRESHOLDS, SKIPS, rules)]
    return sorted(every, key=lambda settings: settings != begin)


def recorded(explorer):
    "What `recorded` in front.js takes: each text once, and a row of numbers for each position"
    from lrfinder_nb.show.front import LAYERS
    values, rows, keys, known = {}, [], None, {}
    number = lambda value: values.setdefault(json.dumps(value), len(values))
    for settings in positions(explorer):
        explorer._set(settings)
        same = tuple(v for k, v in settings.items() if k != 'rule')       # all rules read the same part of the curve
        if same not in known: known[same] = explorer.subject.rows(explorer.analysis)
        explorer._rows = known[same]
        explorer.settle(rows=False)
        front = explorer.front
        frame = {k: v for k, v in front.reading.items() if k not in (*FIXED, *GONE)}
        frame |= {k: getattr(front, k) for k in LAYERS if k != 'raw'}
        keys = keys or list(frame)
        rows.append([number(frame[k]) for k in keys])
    reading = {k: front.reading[k] for k in FIXED} | dict(can={'Reset': True}, rest=True)
    fixed = dict(about=about(explorer), shell=front.shell, raw=front.raw, reading=reading)
    return dict(fixed=fixed, keys=keys, values=list(map(json.loads, values)), frames=rows)


def about(explorer):
    "The controls, with the positions that were recorded"
    known = explorer.front.about
    stops = dict(beta=sorted({*BETAS, explorer._begin['beta']}), skip_start=SKIPS, diverge_threshold=THRESHOLDS)
    controls = {name: dict(known['controls'][name], stops=list(values)) for name, values in stops.items()}
    return dict({k: v for k, v in known.items() if k != 'uid'}, controls=controls, recorded=True)


START = """
const packed = Uint8Array.from(atob('FRAMES'), c => c.charCodeAt(0))
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'))
new Response(unpacked).json().then(frames => {
  document.getElementById('try-still').remove()
  render({model: recorded(frames), el: document.getElementById('tryit')})
})"""


def script(data):
    "The front end and its frames, which are packed, as one script, which runs from a disk, too"
    front = FRONT.read_text(encoding='utf-8').replace('export default {render}', '')
    front = front.replace('export function', 'function')
    frames = gzip.compress(json.dumps(data, separators=(',', ':')).encode(), mtime=0)
    return f"(() => {{\n{front}\n{START.replace('FRAMES', base64.b64encode(frames).decode())}\n}})()\n"


def page(explorer):
    "The tool with its default answer, which shows without JavaScript too"
    curve, words = explorer.subject.curves[0], explorer.words()
    svg = explorer.still().replace('#767676', 'currentColor')
    ran = curve.ran_on
    return f'''<div class="tryit"><div id="tryit"></div><div id="try-still"><p>{words}</p>{svg}</div>
<p class="t-note">This is a recorded sweep of a {ran['model']} with {ran['optimizer']} on handwritten digits:
{len(curve)} steps with batches of {ran['batch_size']}. The library computed every answer when this page
was built. Your browser only picks the one that belongs to the sliders, and nothing leaves it.</p>
<noscript><p>The sliders need JavaScript. The picture shows the default settings.</p></noscript>
<script src="_static/try.js" defer></script>
</div>'''


def record():
    "Sweep a small CNN over the digits and save the curve"
    import torch
    from torch import nn, optim
    from lrfinder_nb import LRFinder, SmallCNN, digits, set_seed
    torch.set_num_threads(1)
    set_seed(0)
    model = SmallCNN()
    finder = LRFinder(model, optim.AdamW(model.parameters()), nn.CrossEntropyLoss())
    settings = dict(start_lr=1e-6, num_iter=150, seed=0, diverge_threshold=20)
    finder.range_test(digits(batch_size=32)[0], progress=False, **settings)
    finder.save(SWEEP)


if __name__ == '__main__': record()
