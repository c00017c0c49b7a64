"""What is read from a curve: a rate within its interval, or the cause why there is none"""
import json
import math
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from lrfinder_nb import LossCurve, NoSuggestion, analyse, consensus, load_curve, save_curve
from lrfinder_nb.core import suggest
from lrfinder_nb.core.curve import sparkline
from lrfinder_nb.core.diagnose import diagnose
from lrfinder_nb.core.files import read_number
from lrfinder_nb.core.rules import RULES, Reading

OFTEN = settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def bowl(n=100, noise=.05, seed=0, lo=-7, hi=1, ended='completed'):
    "A sweep with its steepest descent at 3e-3 and its minimum near 5e-2"
    x = np.linspace(lo, hi, n)
    y = 2.3 - 2/(1 + np.exp(-(x - np.log10(3e-3))/.25)) + .5*10**(2*(x - np.log10(.3)))
    return LossCurve(10**x, y + noise*np.random.default_rng(seed).standard_normal(n), ended)


def first(curve, n, ended): return LossCurve(curve.lrs[:n], curve.losses[:n], ended)


# sparklines and files

@pytest.mark.parametrize('value', [1e16, .1, .3, 1.1, -.7, 5e-324, -1e99])
def test_a_sparkline_of_nearly_equal_losses(value):
    above = float(np.nextafter(value, math.inf))
    for half in (1, 20, 70, 130, 150, 499):
        for losses in ([value]*half, [value, above]*half, [above]*half + [value]*half):
            assert len(sparkline(losses)) == min(len(losses), 20)


@OFTEN
@given(st.lists(st.floats(), min_size=1, max_size=60), st.integers(1, 30))
def test_a_sparkline_never_raises(losses, width): assert len(sparkline(losses, width)) == min(len(losses), width)


def test_a_number_too_large_for_a_float_is_a_value_error(tmp_path):
    path = save_curve(LossCurve([.1, .2], [2.5, 1.5]), tmp_path/'curve.json')
    path.write_text(path.read_text().replace('2.5', str(10**400)))
    with pytest.raises(ValueError, match='too large'): load_curve(path)
    with pytest.raises(ValueError, match='must fit a float'): LossCurve([.1], [10**400])
    with pytest.raises(ValueError, match='losses holds 1000'): read_number(json.loads('1' + '0'*400), 'losses')


# the interval

def fastest(f):
    "Seconds of processor time that the fastest of ten calls takes"
    def once():
        start = time.process_time()
        f()
        return time.process_time() - start
    return min(once() for _ in range(10))


@pytest.mark.parametrize('n', [100, 5000, 10_000])
@pytest.mark.parametrize('hi', [1, -6.9])
def test_an_interval_is_cheap(n, hi):
    "It takes less than twelve times as long as fits of 200 curves of 500 points, since curves are thinned first"
    a = analyse(LossCurve(np.logspace(-7, hi, n), bowl(n).losses))
    fits = fastest(lambda: [suggest.smooth(bowl(500).losses, .9) for _ in range(200)])
    assert fastest(lambda: suggest.interval(a.trend, a.kept, a.rule)) < 12*fits


@pytest.mark.parametrize('rule', sorted(RULES))
def test_a_cheap_interval_says_the_same(rule, monkeypatch):
    a = analyse(bowl(3000), rule=rule)
    cheap = np.log10(suggest.interval(a.trend, a.kept, rule))
    monkeypatch.setattr(suggest, 'width_of', lambda beta: 1.)
    whole = np.log10(suggest.interval(a.trend, a.kept, rule))
    assert np.abs(cheap - whole).max() < max(.02, .03*np.ptp(whole))


@pytest.mark.parametrize('rule', sorted(RULES))
def test_no_interval_has_zero_width(rule):
    for curve in (bowl(noise=0), bowl(noise=0, hi=-2), first(bowl(noise=0), 66, 'diverged')):
        s = analyse(curve, rule=rule).suggestion
        assert s.interval[0] <= s.lr <= s.interval[1] and s.interval[1] > 1.05*s.interval[0]


# the end of what was seen

@pytest.mark.parametrize('ended, remedy', [('stopped', 'let the sweep run on'), ('exhausted', 'loader that can be')])
@pytest.mark.parametrize('n', [50, 56, 60, 64])
def test_a_sweep_that_ended_on_its_descent_gives_no_rate(n, ended, remedy):
    for seed in range(10):
        with pytest.raises(NoSuggestion, match=remedy) as e: _ = analyse(first(bowl(seed=seed), n, ended)).suggestion
        assert 'end_lr' not in str(e.value) and (n == 50 or e.value.symptom == 'still falling')


def test_a_sweep_stopped_after_the_rise_gives_the_rate_of_the_whole():
    whole = analyse(bowl()).suggestion
    cut = analyse(first(bowl(), 84, 'stopped')).suggestion
    assert not cut.at_least and cut.lr == pytest.approx(whole.lr, rel=.2)


def test_a_complete_sweep_that_ends_on_its_descent_says_at_least():
    s = analyse(bowl(hi=-2)).suggestion
    assert s.at_least and s.lr < s.interval[1] == pytest.approx(1e-2, rel=.7)
    assert 'at least' in repr(s) and 'higher rate may do' in s.why
    assert 'never rose' in [x.name for x in diagnose(analyse(bowl(hi=-2)))]
    assert not analyse(bowl()).suggestion.at_least and 'at least' not in repr(analyse(bowl()).suggestion)
    runs = consensus([bowl(hi=-2, seed=i) for i in range(3)])
    assert runs.at_least and 'at least' in repr(runs) and float(runs) == runs.lr


def test_a_cut_within_the_noise_says_at_least():
    strict = [analyse(bowl(noise=.15, seed=seed), diverge_threshold=1.3, skip_end=0) for seed in range(60)]
    early = [a.suggestion for a in strict if not a.problem and 'stopped too early' in [x.name for x in diagnose(a)]]
    edge = [s for s in early if s.index >= s.kept.stop - 1]
    assert edge and all(s.at_least and s.interval[1] > 1.05*s.lr for s in edge)


def test_a_rate_below_the_sweep_says_so(monkeypatch):
    monkeypatch.setitem(RULES, 'far_below', lambda t: Reading(int(t.values.argmin()), 'far below {lr}', 1e7))
    s = analyse(bowl(), rule='far_below').suggestion
    assert s.lr < 1e-7 and 'below the first rate of the sweep, 1.0e-07' in s.why
    assert 'below the first' not in analyse(bowl()).suggestion.why


# causes and remedies

def exploding(seed, noise=.08, fall=.54):
    "40 steps that fall from 2.39 to 1.85 and explode, noisier and noisier"
    x, rng = np.linspace(-7, 1, 40), np.random.default_rng(seed)
    over = np.maximum(x + 2, 0)
    y = 2.39 - fall/(1 + np.exp(-(x + 2.8)/.25)) + np.expm1(over) + noise*np.exp(2*over)*rng.standard_normal(40)
    return LossCurve(10**x[:36], y[:36], 'diverged')


def test_a_curve_that_fell_before_it_exploded_did_not_only_rise():
    found = [analyse(exploding(seed)) for seed in range(100)]
    said = [a.problem for a in found if a.problem]
    assert len(said) < 40 and not [s for s in said if 'only rose' in s or 'start_lr' in s]


def test_a_curve_that_only_rose_still_says_so():
    for seed in range(20):
        rising = 2.3 + np.linspace(0, 4, 100)**2/4 + .05*np.random.default_rng(seed).standard_normal(100)
        curve = LossCurve(bowl().lrs, rising)
        with pytest.raises(NoSuggestion, match='only rose.*lower start_lr'): _ = analyse(curve).suggestion


SHORT = [2.3, 2.4, 2.2]*5 + [2., 1.8, 60, 1e3, 1e5]     # a short descent, and then an explosion


@pytest.mark.parametrize('curve, kw, said, unsaid', [
    (bowl(), dict(skip_end=75), 'lower skip_end', 'end_lr'),
    (bowl(), dict(skip_start=65), 'lower skip_start', 'start_lr'),
    (first(bowl(), 11, 'stopped'), {}, 'run on', 'num_iter'),
    (first(bowl(), 11, 'exhausted'), {}, 'read again', 'num_iter'),
    (bowl(20), {}, 'raise num_iter', 'run on'),
    (LossCurve(np.logspace(-7, 1, 20), SHORT, 'diverged'), {}, 'raise num_iter', 'diverged at once'),
    (LossCurve(bowl().lrs[:12], [2.3]*4 + [10.**i for i in range(8)], 'diverged'), {}, 'diverged at once', 'num_iter'),
    (bowl(), dict(skip_start=60, skip_end=38), 'lower skip_start and skip_end', 'num_iter'),
    (bowl(hi=-4), {}, 'raise end_lr', 'start_lr'),
    (first(bowl(hi=-4), 60, 'stopped'), {}, 'run on', 'end_lr'),
], ids=str)
def test_the_remedy_fits_the_cause(curve, kw, said, unsaid):
    with pytest.raises(NoSuggestion) as e: _ = analyse(curve, **kw).suggestion
    assert said in str(e.value) and unsaid not in str(e.value)


# any curve

@st.composite
def curves(draw):
    "A curve of any shape: a walk, a bowl, a plateau, an explosion, or numbers at random"
    n, rng = draw(st.integers(1, 150)), np.random.default_rng(draw(st.integers(0, 10**6)))
    low, wide = draw(st.floats(-9, 0)), draw(st.floats(1e-3, 10))
    lrs = np.logspace(low, low + wide, n) if draw(st.booleans()) else np.linspace(10**low, 10**(low + wide), n)
    shape = draw(st.sampled_from(['walk', 'bowl', 'flat', 'explosion', 'random']))
    x, noise = np.linspace(-4, draw(st.floats(-3, 3)), n), draw(st.sampled_from([0, 1e-9, .05, 1.]))
    explosion = 1 - 1/(1 + np.exp(-x)) + np.expm1(np.clip(9*(x - 1), 0, 99))
    walk, wild = np.cumsum(rng.standard_normal(n)), rng.standard_normal(n)*1e3
    y = dict(walk=walk, bowl=x**2, flat=np.ones(n), random=wild, explosion=explosion)[shape]
    y = y + noise*rng.standard_normal(n)
    if draw(st.booleans()): y[-1] = draw(st.sampled_from([math.nan, math.inf, -math.inf, 1e99]))
    return LossCurve(lrs, y, draw(st.sampled_from(['completed', 'diverged', 'non-finite', 'stopped', 'exhausted'])))


AT_THE_END = LossCurve(np.linspace(1, 1e5, 11), [*np.linspace(4, .4, 10)**2, math.nan])    # the last rate but one


@OFTEN
@example(AT_THE_END, 'balanced', 0, 0, .98)
@given(curves(), st.sampled_from(sorted(RULES)), st.integers(0, 12), st.integers(0, 8),
       st.sampled_from([None, 0, .6, .98]))
def test_any_curve_gives_a_rate_within_its_interval_or_a_cause(curve, rule, skip_start, skip_end, beta):
    a = analyse(curve, beta, skip_start, skip_end, rule=rule)
    assert all(str(s) for s in diagnose(a))
    try: s = a.suggestion
    except NoSuggestion as e: return check_sentence(e)
    low, high = s.interval
    assert low <= s.lr <= high and low < high and s.lr <= curve.lrs[-1]
    assert s.lr >= curve.lrs[0] or 'below the first rate of the sweep' in s.why
    assert high <= curve.lrs[-1]*(1 + 1e-9)
    if s.at_least and 'stopped too early' not in [x.name for x in diagnose(a)]:
        assert curve.ended not in ('diverged', 'non-finite') and a.cut == len(curve)


def check_sentence(e):
    "The refusal names a symptom and a remedy, in one sentence"
    assert e.symptom and '\n' not in str(e) and any(w in str(e) for w in ('raise', 'lower', 'let', 'pass', 'check'))


def test_losses_that_become_skewed_around_one_mean_give_no_rate():
    "Six in ten losses become smaller and the others larger, so that medians fall and the mean stays"
    lrs, apart = np.logspace(-4, 0, 600), np.linspace(0, 1, 600)
    def sweep(seed):
        rng = np.random.default_rng(seed)
        large = rng.random(600) < .4
        return LossCurve(lrs, 2 + apart*np.where(large, 2.25, -1.5) + .2*rng.standard_normal(600))
    refused = [bool(analyse(sweep(seed)).problem) for seed in range(40)]
    assert sum(refused) > 20
