"""Pictures as a browser draws them: no text over another, none cut off"""
import math

import numpy as np
import pytest
from lab import fresh_page

from lrfinder_nb.core.consensus import Consensus
from lrfinder_nb.core.curve import LossCurve
from lrfinder_nb.core.suggest import analyse
from lrfinder_nb.show.pictures import curve_svg, frame_of, live_svg, runs_svg

TEXTS = """() => {
  const out = document.querySelector('svg').getBoundingClientRect()
  return [...document.querySelectorAll('text')].map(t => {
    const r = t.getBoundingClientRect()
    const place = [r.left - out.left, r.top - out.top, r.right - out.left, r.bottom - out.top]
    return [t.textContent, ...place, out.width, out.height] }) }"""


def bowl(low=0., high=2.5, n=100, start=1e-7, end=10., linear=False, noise=.02):
    "A noisy sweep with losses between `low` and `high`"
    lrs = np.linspace(start, end, n) if linear else np.geomspace(start, end, n)
    x = np.linspace(-6, 3, n)
    y = 1/(1 + np.exp(2*x)) + np.exp(4*np.minimum(x - 2.6, .3)) + noise*np.random.default_rng(0).normal(size=n)
    return LossCurve(lrs, low + (high - low)*(y - y.min())/np.ptp(y), step_mode='linear' if linear else 'exp')


ODD = dict(one=LossCurve([1e-3], [2.]), bad=LossCurve([1e-3], [math.nan], 'non-finite'),
           flat=LossCurve(np.geomspace(1e-5, 1, 50), np.ones(50)),
           early=LossCurve(np.geomspace(1e-7, 10, 1500)[:30], .6 - np.geomspace(1e-6, 1e-5, 30), 'stopped'))
CURVES = dict(usual=bowl(), shallow=bowl(.5982, .5986), shallower=bowl(.59838, .59864),
              shallowest=bowl(.598402, .598418), deep=bowl(-1e6, 1e6), tiny=bowl(1e-7, 3e-7),
              negative=bowl(-.123456, -.123449), near=bowl(start=1e-3, end=2e-3),
              far=bowl(start=1e-30, end=1e5),
              linear=bowl(start=.001, end=.1, linear=True), long=bowl(n=1000), few=bowl(n=12), **ODD)


def live(curve, width):
    "The curve as a sweep on its way"
    a = analyse(curve, skip_start=0, skip_end=0)
    return live_svg(a, frame_of([a], (1e-7, 10.), width), (curve.lrs[0], curve.losses[0]), 4.)


def several(curve, width):
    "The curve as two runs"
    a = analyse(curve)
    return runs_svg(Consensus((a,)*2, ('run 1', 'run 2')), frame_of([a]*2, width=width))


def one(curve, width): return curve_svg(analyse(curve), frame_of([analyse(curve)], width=width))


DRAWN = dict(curve=one, live=live, runs=several)
NOTHING = 'bad', 'live'  # without a finite loss, nothing is drawn live
CASES = [(n, h, w) for n in CURVES for h in DRAWN for w in (320, 720) if (n, h) != NOTHING]


@pytest.fixture(scope='module')
def page(browser):
    page = fresh_page(browser)
    yield page
    page.context.close()


@pytest.mark.parametrize('name,how,width', CASES)
def test_texts(page, name, how, width):
    page.set_content(DRAWN[how](CURVES[name], width))
    texts = page.evaluate(TEXTS)
    assert 'learning rate' in {t for t, *_ in texts} and any(t.startswith('loss') for t, *_ in texts)
    for t, left, top, right, bottom, wide, tall in texts:
        assert left >= -1 and top >= -1 and right <= wide + 1 and bottom <= tall + 1, f'{t} is cut off'
    for i, (t, left, top, right, bottom, *_) in enumerate(texts):
        for u, l, tp, r, b, *_ in texts[:i]:
            assert right <= l + 1 or r <= left + 1 or bottom <= tp + 2.5 or b <= top + 2.5, f'{t} lies over {u}'
    assert not page.errors
