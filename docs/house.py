"""The picture on the page about how the project is built: the way of a loss from the loader to the slider"""
from html import escape

TITLE = 'The way of a loss: from the loader through engine and core to the sliders, and back when a slider moves'
STYLE = '''.house text { fill: currentColor; font: 14px sans-serif; text-anchor: middle }
.house .name { font-weight: 600 } .house .said { font-size: 12px }
.house .layer { text-anchor: start; font-weight: 600 }
.house rect { fill: none; stroke: currentColor } .house .band { fill: #6b8fc9; fill-opacity: .13; stroke: none }
.house path { fill: none; stroke: currentColor; stroke-width: 1.4; marker-end: url(#house-tip) }
.house marker path { fill: currentColor; stroke: none; marker-end: none }'''
BANDS = [('engine/: trains, and puts back', 0), ('core/: numbers only', 1), ('show/: pictures and sliders', 2)]
BOXES = [  # column, band, module, what it does
    (0, 0, 'your loader', 'gives batches'), (1, 0, 'passes', 'keeps all, puts back'),
    (2, 0, 'step, sweep', 'a loss for each rate'), (3, 0, 'record', 'coarse, then fine'),
    (3, 1, 'curve', 'the raw losses'), (2, 1, 'trend', 'smoothed, cut'), (1, 1, 'rules, refuse', 'a rate, or why not'),
    (0, 1, 'suggest', 'rate and interval'),
    (0, 2, 'subjects', 'what there is to show'), (1, 2, 'pictures, svg', 'draw it'),
    (2, 2, 'explorer, front', 'to the page and back'), (3, 2, 'front.js', 'sliders in the page')]
WIDE, HIGH, LEFT, TOP, STEP, BAND = 150, 52, 20, 44, 205, 130


def corner(column, band): return LEFT + STEP*column, TOP + BAND*band


def box(column, band, name, said):
    "A module, and what it does"
    x, y = corner(column, band)
    middle = x + WIDE/2
    return (f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="7"/>'
            f'<text class="name" x="{middle}" y="{y + 22}">{escape(name)}</text>'
            f'<text class="said" x="{middle}" y="{y + 41}">{escape(said)}</text>')


def arrow(a, b):
    "From one box to the next, in a row or down to the next band"
    (x, y), (x2, y2) = corner(*a[:2]), corner(*b[:2])
    if x == x2: return f'<path d="M{x + WIDE/2} {y + HIGH}V{y2 - 4}"/>'
    y += HIGH/2
    return f'<path d="M{x + WIDE} {y}H{x2 - 4}"/>' if x < x2 else f'<path d="M{x} {y}H{x2 + WIDE + 4}"/>'


def house():
    "The picture as SVG, in the colours of the page"
    width, height = 2*LEFT + 3*STEP + WIDE, TOP + BAND*2 + HIGH + 20
    bands = [f'<rect class="band" x="4" y="{TOP + BAND*i - 32}" width="{width - 8}" height="{HIGH + 44}" rx="10"/>'
             f'<text class="layer" x="{LEFT + STEP}" y="{TOP + BAND*i - 12}">{escape(name)}</text>'
             for name, i in BANDS]
    (x, y), (x2, y2) = corner(2, 2), corner(2, 1)
    back = (f'<path d="M{x + WIDE/2} {y}V{y2 + HIGH + 4}"/>'
            f'<text class="said" x="{x + WIDE/2 + 8}" y="{y - 44}" style="text-anchor:start">a slider moves: '
            'read the same losses again</text>')
    parts = [*bands, *(box(*b) for b in BOXES), *map(arrow, BOXES, BOXES[1:]), back]
    tip = ('<defs><marker id="house-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
           'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z"/></marker></defs>')
    return (f'<svg class="house" viewBox="0 0 {width} {height}" role="img" aria-labelledby="house-title" '
            f'style="max-width:100%;height:auto"><title id="house-title">{escape(TITLE)}</title>'
            f'<style>{STYLE}</style>{tip}{"".join(parts)}</svg>')
