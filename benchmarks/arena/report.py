"""What the arena found, as tables in markdown and a picture

    python benchmarks/arena/report.py               everything against the truth
    python benchmarks/arena/report.py --reference 'single sweep of 300'     paired differences to that one
    python benchmarks/arena/report.py --horizon 4   the tasks that were trained four times as long
    python benchmarks/arena/report.py --keep        writes benchmarks/results/arena/summary.json and a picture, too
"""
import argparse
import json
import math

import own  # noqa: F401, registers its contestants
import peers  # noqa: F401, likewise
from contestants import CONTESTANTS
from run import RESULTS
from scoring import difference, measured

HEAD = ('contestant', 'steps', 'score', '90th percentile of loss/best', 'catastrophic', 'refused',
        'within 5 %', 'spread over seeds')


def line(cells):
    return f"| {' | '.join(cells)} |"


def names_there():
    "Contestants whose answers are there, whether or not they can be run here"
    paths = sorted((RESULTS/'rates').glob('*.json'))
    return [json.loads(p.read_text())['contestant'] for p in paths]


def is_ours(name):
    "Whether a contestant is one of this library's"
    return getattr(CONTESTANTS.get(name), 'ours', False)


def all_measured(names=None, horizon=1):
    "The contestants, scored, the best first"
    found = [measured(name, horizon) for name in names or names_there()]
    return sorted((m for m in found if m.answers), key=lambda m: m.score)


def table(names=None, horizon=1):
    "Lines of a markdown table: a row for each contestant"
    yield line(HEAD)
    yield line(['---']*len(HEAD))
    most = 0
    for m in all_measured(names, horizon):
        r, most = m.row, max(most, len(m.answers))
        note = '' if len(m.answers) == most else f' ({len(m.answers)} tasks)'
        yield line([m.name + note, f"{r['steps']:.0f}", f"{r['score']:.3f}", f"{r['tail']:.2f}",
                    f"{r['catastrophic']:.1%}", f"{r['refused']:.1%}", f"{r['close']:.0%}", f"x{r['spread']:.2f}"])


def against(reference, names=None, horizon=1):
    "Lines of a markdown table: the score of each contestant less that of the reference, with an interval"
    yield line(['contestant', f'score less that of {reference}', '95 % interval', 'separable'])
    yield line(['---']*4)
    other = measured(reference, horizon)
    for m in all_measured(names, horizon):
        if m.name != reference:
            mean, low, high = difference(m, other)
            words = 'worse' if low > 0 else 'better' if high < 0 else 'no'
            yield line([m.name, f'{mean:+.3f}', f'{low:+.3f} to {high:+.3f}', words])


def lost(name, horizon=1, margin=.02):
    "Lines of a markdown table: the tasks on which another library's contestant, or a constant, beats ours"
    ours = measured(name, horizon)
    rivals = [m for m in all_measured(None, horizon) if not is_ours(m.name)]
    yield line(['task', f'score of {name}', 'the best rival', 'its score', 'rivals that are better'])
    yield line(['---']*5)
    for task, score in sorted(ours.scores.items(), key=lambda pair: -pair[1]):
        better = sorted((m.scores[task], m.name) for m in rivals
                        if m.scores.get(task, score) < score - margin)
        if better:
            yield line([task, f'{score:.3f}', better[0][1], f'{better[0][0]:.3f}', str(len(better))])


def coverage(names=None, horizon=1):
    "Lines of a markdown table: how many answers of other seeds lie in the intervals, and how wide these are"
    yield line(['contestant', 'answers inside', 'tasks with less than 80 %', 'upper end over lower end'])
    yield line(['---']*4)
    for m in all_measured(names, horizon):
        if not math.isnan(m.row['covered']):
            few = sum(a.covered < .8 for a in m.answers)
            yield line([m.name, f"{m.row['covered']:.0%}", str(few), f"x{m.row['width']:.1f}"])


def at_like_cost(most=1.2):
    "Lines of a markdown table: each of ours less each rival that takes at most `most` times its steps"
    yield line(['ours', 'rival', 'difference of the scores', '95 % interval', 'ours is'])
    yield line(['---']*5)
    found = all_measured()
    for ours in (m for m in found if is_ours(m.name)):
        for m in found:
            if not is_ours(m.name) and m.row['steps'] <= most*ours.row['steps']:
                mean, low, high = difference(ours, m)
                word = 'better' if high < 0 else 'worse' if low > 0 else 'not separable'
                yield line([ours.name, m.name, f'{mean:+.3f}', f'{low:+.3f} to {high:+.3f}', word])


def by_task(names, horizon=1):
    "Lines of a markdown table: scores task by task"
    found = [measured(name, horizon) for name in names]
    yield line(['task', *names])
    yield line(['---']*(1 + len(names)))
    for task in sorted({t for m in found for t in m.scores}):
        yield line([task, *(f'{m.scores[task]:.3f}' if task in m.scores else '' for m in found)])


SHORT = {'single sweep of 100': '100 steps', 'single sweep of 300': '300 steps',
         'verified in two orders': 'in two orders', 'thorough at a quarter': 'a quarter',
         'Lightning lr_find': 'Lightning', 'ignite FastaiLRFinder': 'ignite'}

TO_THE_LEFT = 'fastai valley', 'verified', 'coarse to fine', 'single sweep of 100', "Prodigy's d"
LOWER = {'repeat of three': 8, 'verified in two orders': -7, 'single sweep of 300': 9, 'verified': -5}      # by points


def picture(path, names=None):
    "Score against steps, all contestants, as a drawing in a file"
    import matplotlib
    matplotlib.use('Agg')
    matplotlib.rcParams.update({'svg.fonttype': 'none', 'svg.hashsalt': 'arena'})
    from matplotlib.figure import Figure
    ax = Figure(figsize=(8, 5), layout='constrained').subplots()
    for m in all_measured(names):
        ours = is_ours(m.name)
        x, y, left = max(m.row['steps'], 1), m.score, m.name in TO_THE_LEFT
        ax.plot(x, y, 'o' if ours else 's', color='C3' if ours else 'C7')
        ax.annotate(SHORT.get(m.name, m.name), (x, y), (-6 if left else 6, -3 - LOWER.get(m.name, 0)),
                    textcoords='offset points', fontsize=8, ha='right' if left else 'left')
    ax.set(xscale='log', yscale='log', xlim=(.7, 3000),
           xlabel='training steps (0 at the left edge)',
           ylabel='score: mean ln(loss / best loss)')
    ax.grid(alpha=.3)
    ax.figure.savefig(path, metadata={'Date': None})


LONGER = 'coarse to fine', 'verified', 'thorough', 'fastai minimum', 'torch-lr-finder', 'Lightning lr_find'


def summary():
    "Everything that the pages show, as lines of tables"
    names = [n for n in names_there() if is_ours(n)]
    head, rule, *pairs = at_like_cost()
    beside = [pair for pair in pairs if not pair.endswith('| better |')]
    judged = max(len(m.answers) for m in all_measured())
    scores = {m.name: round(m.score, 4) for m in all_measured()}
    return dict(tasks=judged, scores=scores, pairs=len(pairs), table=[*table()], beside=[head, rule, *beside],
                coverage=[*coverage()], lost=[*lost('verified')], by_task=[*by_task(names)],
                longer=[*by_task(LONGER, 4)])


def main():
    parser = argparse.ArgumentParser(description='Report what the arena found')
    parser.add_argument('--reference', default='single sweep of 100', help='what the others are compared with')
    parser.add_argument('--horizon', type=int, default=1, choices=[1, 4], help='1, or 4 times as long')
    parser.add_argument('--keep', action='store_true', help='write the summary and the picture, too')
    asked = parser.parse_args()
    for lines in (table(None, asked.horizon), against(asked.reference, None, asked.horizon),
                  lost(asked.reference, asked.horizon), at_like_cost(), coverage(None, asked.horizon)):
        print('\n'.join(lines), '\n')
    if asked.keep:
        picture(RESULTS/'arena.svg')
        (RESULTS/'summary.json').write_text(json.dumps(summary(), indent=1) + '\n')


if __name__ == '__main__':
    main()
