"""What the build makes for the pages: the tool to try, tables of the measurements, the preview picture."""
import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from cells import raw, settings
from house import house
from run_nbs import ROOT
from tryit import SWEEP, key, tryit

sys.path.append(str(ROOT/'benchmarks'))
RESULTS = ROOT/'benchmarks/results'


def filler(built):
    "A function from the name of a placeholder to its text; writes pictures and data to the folder `built`"
    built.mkdir(parents=True, exist_ok=True)
    made = {'tryit': tryit(built)} | arena() | {k: f() for k, f in TABLES.items()}
    social(built/'social.png')
    return made.__getitem__


# The measurements

def result(name): return json.loads((RESULTS/f'{name}.json').read_text())


def table(head, rows):
    lines = (head, ['---']*len(head), *rows)
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines) + '\n'


def printed(name):
    "The table that the benchmark itself prints"
    return '\n'.join(import_module(name).table(result(name))) + '\n'


def number(v):
    "A number, or a range, in four digits"
    if v is None: return ''
    return ' to '.join(map(number, v)) if isinstance(v, list) else f'{v:.4g}'


def measured(name, spread, title):
    "A table of what was measured, where and with which target"
    rows = [[r['measure'], r['of'], number(r['median']), number(r[spread]), r['unit'], number(r['target'])]
            for r in result(name)['results']]
    return table(['measure', 'of', 'median', title, 'unit', 'target'], rows)


def arena():
    "Placeholders for what the arena found: tables, numbers and the picture"
    found = result('arena/summary')
    tables = {k: '\n'.join(found[k]) + '\n' for k in ('table', 'beside', 'coverage', 'lost', 'longer')}
    longer = [float(row.split('|')[2]) for row in found['longer'][2:]]
    held = [score for score in longer if score < .1]
    picture = (RESULTS/'arena/arena.svg').read_text()
    attributes = 'role="img" aria-labelledby="arena-title" style="max-width:100%;height:auto"'
    picture = picture[picture.index('<svg'):].replace('<svg ', f'<svg {attributes} ', 1)
    title = '<title id="arena-title">Score against training steps of all contestants</title>'
    picture = picture.replace('>', '>' + title, 1)
    return {'arena': tables['table'], 'arena_beside': tables['beside'], 'arena_coverage': tables['coverage'],
            'arena_lost': tables['lost'], 'arena_longer': tables['longer'],
            'arena_all': str(len(found['by_task']) - 2), 'arena_tasks': str(found['tasks']),
            'arena_pairs': str(found['pairs']),
            'arena_held': f'{len(held)} of {len(longer)}', 'arena_held_loss': f'{np.expm1(max(held)):.0%}',
            'arena_constants': '\n'.join(result('arena/constants')) + '\n', 'arena_picture': raw(picture)}


def traces():
    t = result('traces')
    return table(['was as before', *t], [[what, *(t[n][what] for n in t)] for what in t['lrfinder_nb']])


def live():
    r = result('live')
    seconds, share, target = np.median(r['sweep_seconds']), r['median_share'], r['target']
    return (f"In a notebook kernel, {len(r['sweep_seconds'])} sweeps took about {seconds:.0f} seconds each, "
            f'and the display took {share:.1%} of the time (target {target:.0%}). Script: `benchmarks/live.py`.')


def training():
    ratios = result('train')['epoch_over_bare_loop']
    rows = [[k, f'{v:.3f}'] for k, v in ratios.items()]
    return table(['trainer', 'time of an epoch over the bare loop'], rows[1:])


def repeat_cost():
    c = result('stability')['cost']
    return (f"Five sweeps with `repeat` took {c['repeat_over_one']:.2f} times as long as one (target 5.1). "
            f"On the CPU, a sweep after `set_seed(deterministic=True)` took {c['deterministic_over_not']:.2f} times "
            'as long as without it.')


def neighbours():
    "What held for the objects of other libraries when their tests ran last (tests/neighbours)"
    found = json.loads((ROOT/'docs/data/neighbours.json').read_text(encoding='utf-8'))
    columns = 'sweep', 'verify', 'train', 'restored', 'processes'
    words = {True: 'yes', False: 'no', None: 'not tried'}
    head = 'library', 'sweep', 'verify', 'train', 'restored bit for bit', 'several processes'
    row = lambda name, r: [f"{name} {r['version']}", *(words[r.get(c)] for c in columns)]
    return table(head, [row(name, r) for name, r in found.items()])


def loops():
    "The added cost of a step over each library's own loop (benchmarks/neighbours.py)"
    found = result('neighbours')
    names = dict(sweep='`finder_for(...).range_test()`')
    said = lambda r: f"{r['median']:+.1f} % ({r['quartiles'][0]:+.1f} to {r['quartiles'][1]:+.1f})"
    rows = [[f"{name} {r['version']}", names.get(who, f'`{who}`'), said(cost)]
            for name, r in found['added_percent'].items() for who, cost in r.items() if isinstance(cost, dict)]
    return table(['library', 'finder', 'step, compared with its own loop'], rows)


def machine(name):
    r = result(name)
    return f"{r['cpu']}, Python {r['python']}, {r['date']}"


TABLES = {
    'version': lambda: settings()['version'],
    'house': lambda: raw(house()),
    'stability': lambda: printed('stability'),
    'repeat_cost': repeat_cost,
    'overhead': lambda: measured('overhead', 'quartiles', 'quartiles'),
    'overhead_machine': lambda: machine('overhead'),
    'explorer': lambda: measured('explorer', 'p95', '95th percentile'),
    'explorer_machine': lambda: machine('explorer'),
    'neighbours': neighbours, 'loops': loops, 'loops_step_ms': lambda: f"{result('neighbours')['step_ms']:.0f}",
    'live': live, 'training': training, 'traces': traces,
    'step_ms': lambda: f"{result('train')['step_ms']:.0f}"}


# The preview picture

def social(path):
    "1200 by 630 pixels, as previews want it"
    stamp = path.parent.parent/'social.stamp'
    if path.exists() and stamp.exists() and stamp.read_text() == key(SWEEP, Path(__file__)): return
    from lrfinder_nb import load_curve, plot_curve
    from matplotlib.figure import Figure
    fig = Figure(figsize=(12, 6.3), dpi=100, facecolor='white')
    fig.text(.06, .84, settings()['title'], fontsize=46, weight='bold', color='#1f2d3d')
    fig.text(.06, .76, 'The learning-rate finder for notebooks', fontsize=22, color='#52606d')
    plot_curve(load_curve(SWEEP), diverge_threshold=4, ax=fig.add_axes((.08, .12, .86, .54)))
    fig.savefig(path, pil_kwargs=dict(optimize=True))
    stamp.write_text(key(SWEEP, Path(__file__)))
