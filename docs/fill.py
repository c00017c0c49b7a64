"""What the build makes for the pages: the tool to try, the tables of the committed measurements, the preview picture

    python docs/fill.py         records the sweep of the tool to try in docs/data/sweep.json
"""
import hashlib
import json
import math
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from run_nbs import ROOT

sys.path.append(str(ROOT/'benchmarks'))

SWEEP, RESULTS = ROOT/'docs/data/sweep.json', ROOT/'benchmarks/results'
BETAS, SKIPS, THRESHOLDS = (0, .5, .75, .85, .92, .97), (0, 10, 20, 40), (1.2, 1.5, 2, 4, 10)


def filler(built):
    "A function from the name of a placeholder to its text; writes pictures and data to the folder `built`"
    built.mkdir(parents=True, exist_ok=True)
    made = {'tryit': tryit(built)} | {k: f() for k, f in TABLES.items()}
    social(built/'social.png')
    return made.__getitem__


# The tool to try

def key(*paths): return hashlib.sha256(b''.join(p.read_bytes() for p in paths)).hexdigest()


def tryit(built):
    "HTML of the tool; its frames go to try.js. They are made again when the library or the sweep changes"
    made, stamp = built/'try.js', key(SWEEP, Path(__file__), *sorted((ROOT/'lrfinder_nb').rglob('*.py')))
    html = built.parent/'try.html'
    if not (made.exists() and html.exists() and made.read_text().startswith(f'// {stamp}')):
        data, text = frames()
        made.write_text(f"// {stamp}\nwindow.TRYIT = {json.dumps(data, separators=(',', ':'))}\n")
        html.write_text(text)
    return '```{raw} html\n' + html.read_text() + '\n```\n'


def frames():
    "(data of the tool, its HTML): every answer is the library's own"
    from lrfinder_nb.core.curve import load_curve
    from lrfinder_nb.core.suggest import RULES, analyse
    from lrfinder_nb.show.svg import GREY, HEIGHT, BOTTOM, TOP, path_data, axes_layer, curve_svg, frame_of, picture, raw_layer
    from lrfinder_nb.show.plot import BLUE, ORANGE
    curve = load_curve(SWEEP)
    default = analyse(curve, diverge_threshold=4)
    betas = sorted({*BETAS, default.beta})
    f, rules = frame_of([default]), list(RULES)
    sentences, known, trends, kept, answers = [], {}, [], [], []
    def number(sentence):
        if sentence not in known: known[sentence] = len(sentences); sentences.append(sentence)
        return known[sentence]
    for b in betas:
        for threshold in THRESHOLDS:
            first = analyse(curve, b, 0, 5, threshold)
            t = first.trend
            trends.append([path_data(f.x(t.lrs[:t.cut]), f.y(t.values[:t.cut]), 'l%d %d'), round(float(f.x(curve.lrs[t.cut]))) if t.cut < len(curve) else 0])
            for skip in SKIPS:
                a = analyse(curve, b, skip, 5, threshold)
                lrs = a.trend.lrs[a.kept]
                kept.append([round(float(f.x(lrs[0]))), round(float(f.x(lrs[-1])))] if len(lrs) else 0)
                for r in rules:
                    a = analyse(curve, b, skip, 5, threshold, r)
                    if a.problem: answers.append([number(a.problem)]); continue
                    s = a.suggestion
                    spot = round(float(f.y(np.interp(math.log(s.lr), np.log(t.lrs), t.values))))
                    answers.append([number(s.why), f'{s.lr:.2e}', round(float(f.x(s.lr))), spot, *(f'{v:.1e}' for v in s.interval), *(round(float(f.x(v))) for v in s.interval)])
    box = f'y="{10*TOP}" height="{10*(HEIGHT - TOP - BOTTOM)}"'
    inside = (f'<clipPath id="try-kept"><rect class="t-window" {box}/></clipPath><rect class="t-left" {box} fill="{GREY}" fill-opacity=".13"/><rect class="t-right" {box} fill="{GREY}" fill-opacity=".13"/>'
              f'<path class="t-cut" stroke="{GREY}" stroke-width="12" stroke-dasharray="20 30"/>' + raw_layer(f, curve) +
              f'<path class="t-all" stroke="{GREY}" stroke-width="10"/><path class="t-kept" stroke="{BLUE}" stroke-width="24" stroke-linejoin="round" clip-path="url(#try-kept)"/>'
              f'<g class="t-answer"><rect class="t-band" {box} fill="{ORANGE}" fill-opacity=".2"/><path class="t-rate" stroke="{ORANGE}" stroke-width="18" stroke-dasharray="60 40"/><circle class="t-dot" r="42" fill="{ORANGE}"/></g>')
    svg = picture(f, inside, axes_layer(f) + '<g class="t-names"></g>', uid='try')
    at = dict(beta=betas.index(default.beta), skip=SKIPS.index(10), threshold=THRESHOLDS.index(4), rule=rules.index('minimum'))
    data = dict(svg=svg, betas=[f'{b:g}' for b in betas], skips=SKIPS, thresholds=THRESHOLDS, rules=rules, ends=[round(float(f.x(curve.lrs[i]))) for i in (0, -1)], top=TOP, orange=ORANGE,
                begin=at, trends=trends, kept=kept, answers=answers, sentences=sentences)
    s = default.suggestion
    still = curve_svg(default, f, s.interval, uid='try', label=f'Loss against learning rate. lr {s.lr:.2e}: {s.why}')
    slider = lambda name, label, values, i: (f'<label for="try-{name}"><code>{label}</code> <output id="try-{name}-value">{values[i]}</output></label>'
                                              f'<input type="range" id="try-{name}" min="0" max="{len(values) - 1}" value="{i}" aria-valuetext="{values[i]}"/>')
    radios = ''.join(f'<label><input type="radio" name="try-rule" value="{i}"{" checked" if i == at["rule"] else ""}/> {r}</label>' for i, r in enumerate(rules))
    ran = curve.ran_on
    return data, f'''<div class="tryit" id="tryit">
<div role="status" aria-live="polite"><p class="t-number">lr {s.lr:.2e} <small>{s.interval[0]:.1e} to {s.interval[1]:.1e}</small></p><p class="t-why">{s.why}</p></div>
<div class="t-picture">{still}</div>
<div class="t-controls"><div>{slider('beta', 'beta', data['betas'], at['beta'])}</div><div>{slider('skip', 'skip_start', SKIPS, at['skip'])}</div><div>{slider('threshold', 'diverge_threshold', THRESHOLDS, at['threshold'])}</div>
<fieldset><legend>rule</legend>{radios}</fieldset><button type="button" class="t-reset">Reset</button></div>
<p class="t-note">A recorded sweep: a {ran['model']} with {ran['optimizer']} on handwritten digits, {len(curve)} steps with batches of {ran['batch_size']}. Every answer was computed by the library when this page was built. Your browser only picks the one that belongs to the sliders; nothing leaves it.</p>
<noscript><p>The sliders need JavaScript. The picture shows the default settings.</p></noscript>
<script src="_static/try.js" defer></script>
</div>'''


# The measurements

def result(name): return json.loads((RESULTS/f'{name}.json').read_text())


def table(head, rows): return '\n'.join('| ' + ' | '.join(map(str, r)) + ' |' for r in (head, ['---']*len(head), *rows)) + '\n'


def printed(name):
    "The table that the benchmark itself prints"
    return '\n'.join(import_module(name).table(result(name))) + '\n'


def measured(name, spread, title):
    "A table of what was measured, where and with which target"
    show = lambda v: '' if v is None else f'{v:.4g}'
    return table(['measure', 'of', 'median', title, 'unit', 'target'], [[r['measure'], r['of'], show(r['median']), ' to '.join(map(show, r[spread])) if isinstance(r[spread], list) else show(r[spread]), r['unit'], show(r['target'])] for r in result(name)['results']])


def traces():
    t = result('traces')
    return table(['was as before', *t], [[what, *(t[n][what] for n in t)] for what in t['lrfinder_nb']])


def live():
    r = result('live')
    return f"In a notebook kernel, {len(r['sweep_seconds'])} sweeps of about {np.median(r['sweep_seconds']):.0f} seconds: the display took {r['median_share']:.1%} of the time (target {r['target']:.0%}). Script: `benchmarks/live.py`."


def training():
    r = result('train')
    return table(['trainer', 'time of an epoch over the bare loop'], [[name, f'{ratio:.3f}'] for name, ratio in r['epoch_over_bare_loop'].items()][1:])


def repeat_cost():
    c = result('stability')['cost']
    return f"Five sweeps with `repeat` took {c['repeat_over_one']:.2f} times as long as one (target 5.1), and `set_seed(deterministic=True)` {c['deterministic_over_not']:.2f} times as long as without it, on the CPU."


def version():
    from bridge import settings
    return settings()['version']


TABLES = dict(step_ms=lambda: f"{result('train')['step_ms']:.0f}", quality=lambda: printed('quality'), stability=lambda: printed('stability'), overhead=lambda: measured('overhead', 'quartiles', 'quartiles'), explorer=lambda: measured('explorer', 'p95', '95th percentile'), traces=traces, live=live, training=training, repeat_cost=repeat_cost, version=version,
              overhead_machine=lambda: machine('overhead'), explorer_machine=lambda: machine('explorer'))


def machine(name):
    r = result(name)
    return f"{r['cpu']}, Python {r['python']}, {r['date']}"


# The preview picture

def social(path):
    "1200 by 630 pixels, as previews want it"
    stamp = path.parent.parent/'social.stamp'
    if path.exists() and stamp.exists() and stamp.read_text() == key(SWEEP, Path(__file__)): return
    from matplotlib.figure import Figure
    from lrfinder_nb.core.curve import load_curve
    from lrfinder_nb.show.plot import plot_curve
    from bridge import settings
    fig = Figure(figsize=(12, 6.3), dpi=100, facecolor='white')
    fig.text(.06, .84, settings()['title'], fontsize=46, weight='bold', color='#1f2d3d')
    fig.text(.06, .76, 'The learning-rate finder for notebooks', fontsize=22, color='#52606d')
    plot_curve(load_curve(SWEEP), diverge_threshold=4, ax=fig.add_axes((.08, .12, .86, .54)))
    fig.savefig(path, pil_kwargs=dict(optimize=True))
    stamp.write_text(key(SWEEP, Path(__file__)))


def record():
    "Sweep a small CNN over the digits and save the curve"
    import torch
    from torch import nn, optim
    from lrfinder_nb import LRFinder, SmallCNN, digits, set_seed
    torch.set_num_threads(1)
    set_seed(0)
    model = SmallCNN()
    finder = LRFinder(model, optim.AdamW(model.parameters()), nn.CrossEntropyLoss())
    finder.range_test(digits(batch_size=32)[0], start_lr=1e-6, num_iter=150, seed=0, diverge_threshold=20, progress=False).save(SWEEP)


if __name__ == '__main__': record()
