"""The tool to try: sliders over a recorded sweep. The library computes every answer when the site is built.

    python docs/tryit.py        records the sweep in docs/data/sweep.json
"""
import hashlib
import json
import math
from pathlib import Path

import numpy as np
from cells import raw
from run_nbs import ROOT

SWEEP = ROOT/'docs/data/sweep.json'
BETAS, SKIPS, THRESHOLDS = (0, .5, .75, .85, .92, .97), (0, 10, 20, 40), (1.2, 1.5, 2, 4, 10)


def key(*paths): return hashlib.sha256(b''.join(p.read_bytes() for p in paths)).hexdigest()


def tryit(built):
    "HTML of the tool; its frames go to try.js. They are made again when the library or the sweep changes"
    made, html = built/'try.js', built.parent/'try.html'
    stamp = key(SWEEP, Path(__file__), *sorted((ROOT/'lrfinder_nb').rglob('*.py')))
    if not (made.exists() and html.exists() and made.read_text().startswith(f'// {stamp}')):
        from lrfinder_nb import load_curve
        tool = Tool(load_curve(SWEEP))
        data = json.dumps(tool.data(), separators=(',', ':'))
        made.write_text(f'// {stamp}\nwindow.TRYIT = {data}\n')
        html.write_text(tool.html())
    return raw(html.read_text())


def px(v): return round(float(v))


class Tool:
    "The answers for all positions of the sliders, and the page that shows them"
    def __init__(self, curve):
        from lrfinder_nb import RULES, analyse
        from lrfinder_nb.show.svg import frame_of
        self.curve, self.rules, self.sentences = curve, list(RULES), {}
        self.default = analyse(curve, diverge_threshold=4)
        self.betas, self.frame = sorted({*BETAS, self.default.beta}), frame_of([self.default])
        self.begin = dict(beta=self.betas.index(self.default.beta), skip=SKIPS.index(10),
                          threshold=THRESHOLDS.index(4), rule=self.rules.index(self.default.suggestion.rule))

    def number(self, sentence): return self.sentences.setdefault(sentence, len(self.sentences))

    def data(self):
        "What the page looks answers up in"
        from lrfinder_nb import analyse
        from lrfinder_nb.show.plot import ORANGE
        from lrfinder_nb.show.svg import TOP
        trends, kept, answers = [], [], []
        for b, threshold in ((b, t) for b in self.betas for t in THRESHOLDS):
            trends.append(self.trend(analyse(self.curve, b, 0, 5, threshold).trend))
            for skip in SKIPS:
                kept.append(self.kept(analyse(self.curve, b, skip, 5, threshold)))
                answers += [self.answer(analyse(self.curve, b, skip, 5, threshold, r)) for r in self.rules]
        return dict(svg=self.svg(), betas=[f'{b:g}' for b in self.betas], skips=SKIPS, thresholds=THRESHOLDS,
                    rules=self.rules, ends=[px(self.frame.x(self.curve.lrs[i])) for i in (0, -1)], top=TOP,
                    orange=ORANGE, begin=self.begin, trends=trends, kept=kept, answers=answers,
                    sentences=list(self.sentences))

    def trend(self, t):
        "[path of a trend, where it was cut]"
        from lrfinder_nb.show.svg import path_data
        path = path_data(self.frame.x(t.lrs[:t.cut]), self.frame.y(t.values[:t.cut]), 'l%d %d')
        return [path, px(self.frame.x(self.curve.lrs[t.cut])) if t.cut < len(self.curve) else 0]

    def kept(self, a):
        "Ends of the part that a rule saw, or 0"
        lrs = a.trend.lrs[a.kept]
        return [px(self.frame.x(lrs[0])), px(self.frame.x(lrs[-1]))] if len(lrs) else 0

    def answer(self, a):
        "[number of the sentence, and where there is one the rate, its place and its interval]"
        if a.problem: return [self.number(a.problem)]
        s, t = a.suggestion, a.trend
        height = self.frame.y(np.interp(math.log(s.lr), np.log(t.lrs), t.values))
        return [self.number(s.why), f'{s.lr:.2e}', px(self.frame.x(s.lr)), px(height),
                *(f'{v:.1e}' for v in s.interval), *(px(self.frame.x(v)) for v in s.interval)]

    def svg(self):
        "The picture whose parts the sliders move"
        from lrfinder_nb.show.plot import BLUE, GREY, ORANGE
        from lrfinder_nb.show.svg import BOTTOM, HEIGHT, TOP, axes_layer, picture, raw_layer
        box = f'y="{10*TOP}" height="{10*(HEIGHT - TOP - BOTTOM)}"'
        inside = (
            f'<clipPath id="try-kept"><rect class="t-window" {box}/></clipPath>'
            f'<rect class="t-left" {box} fill="{GREY}" fill-opacity=".13"/>'
            f'<rect class="t-right" {box} fill="{GREY}" fill-opacity=".13"/>'
            f'<path class="t-cut" stroke="{GREY}" stroke-width="12" stroke-dasharray="20 30"/>'
            f'{raw_layer(self.frame, self.curve)}<path class="t-all" stroke="{GREY}" stroke-width="10"/>'
            f'<path class="t-kept" stroke="{BLUE}" stroke-width="24" stroke-linejoin="round" '
            'clip-path="url(#try-kept)"/>'
            f'<g class="t-answer"><rect class="t-band" {box} fill="{ORANGE}" fill-opacity=".2"/>'
            f'<path class="t-rate" stroke="{ORANGE}" stroke-width="18" stroke-dasharray="60 40"/>'
            f'<circle class="t-dot" r="42" fill="{ORANGE}"/></g>')
        return picture(self.frame, inside, axes_layer(self.frame) + '<g class="t-names"></g>', uid='try')

    def slider(self, name, label, values):
        i = self.begin[name]
        return (f'<div><label for="try-{name}"><code>{label}</code> '
                f'<output id="try-{name}-value">{values[i]}</output></label>'
                f'<input type="range" id="try-{name}" min="0" max="{len(values) - 1}" value="{i}" '
                f'aria-valuetext="{values[i]}"/></div>')

    def radio(self, i, rule):
        checked = ' checked' if i == self.begin['rule'] else ''
        return f'<label><input type="radio" name="try-rule" value="{i}"{checked}/> {rule}</label>'

    def html(self):
        "The tool with its default answer, which shows without JavaScript too"
        from lrfinder_nb.show.svg import curve_svg
        s, ran = self.default.suggestion, self.curve.ran_on
        label = f'Loss against learning rate. lr {s.lr:.2e}: {s.why}'
        low, high = s.interval
        return f'''<div class="tryit" id="tryit">
<div role="status" aria-live="polite">
<p class="t-number">lr {s.lr:.2e} <small>{low:.1e} to {high:.1e}</small></p><p class="t-why">{s.why}</p></div>
<div class="t-picture">{curve_svg(self.default, self.frame, s.interval, uid='try', label=label)}</div>
<div class="t-controls">{self.slider('beta', 'beta', [f'{b:g}' for b in self.betas])}
{self.slider('skip', 'skip_start', SKIPS)}{self.slider('threshold', 'diverge_threshold', THRESHOLDS)}
<fieldset><legend>rule</legend>{''.join(self.radio(i, r) for i, r in enumerate(self.rules))}</fieldset>
<button type="button" class="t-reset">Reset</button></div>
<p class="t-note">This is a recorded sweep of a {ran['model']} with {ran['optimizer']} on handwritten digits:
{len(self.curve)} steps with batches of {ran['batch_size']}. The library computed every answer when this page
was built.
Your browser only picks the one that belongs to the sliders, and nothing leaves it.</p>
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
