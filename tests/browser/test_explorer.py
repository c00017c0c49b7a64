"""The explorer in JupyterLab: what hand and keyboard move is what the library says"""
import csv
import math

import pytest
from lab import SETTINGS, Notebook, Panel, fresh_page, said

from lrfinder_nb.core.suggest import RULES, analyse

FIRST = '''
from lrfinder_nb.core.curve import load_curve
from lrfinder_nb.show.explorer import LRExplorer
curve = load_curve('curve.json')
handed = []
first = LRExplorer(curve, handed.append)
first'''
SECOND = "second = LRExplorer(curve)\nsecond"
SLIDERS = dict(beta=(-80, 'minimum'), skip_start=(100, 'valley'), skip_end=(90, 'minimum'),
               diverge_threshold=(-60, 'valley'))     # how far to drag, and under which rule
CONTRAST = """e => {
  if (!e.isConnected) return [[], [], 0]
  const rgb = c => { const [r, g, b, a = 1] = c.match(/[\\d.]+/g).map(Number); return {c: [r, g, b], a} }
  let box = e
  while (rgb(getComputedStyle(box).backgroundColor).a === 0) box = box.parentElement
  const back = rgb(getComputedStyle(box).backgroundColor).c, s = getComputedStyle(e)
  const ink = rgb(e.tagName === 'text' ? s.fill : s.color)
  const front = ink.c.map((v, i) => ink.a*v + (1 - ink.a)*back[i])
  const part = v => v <= .04045 ? v/12.92 : ((v + .055)/1.055)**2.4
  const light = c => c.map(v => part(v/255)).reduce((t, v, i) => t + v*[.2126, .7152, .0722][i], 0)
  const [a, b] = [light(front), light(back)].sort((a, b) => b - a)
  return [front.map(Math.round), back, (a + .05)/(b + .05)] }"""


def expected(curve, settings):
    "(rate, interval) as the page should show them"
    a = analyse(curve, **settings)
    if a.problem: return 'no suggestion', ''
    if a.suggestion.at_least: return f'lr at least {a.suggestion.lr:.1e}', ''
    return f'lr {a.suggestion.lr:.1e}', '({:.1e} to {:.1e})'.format(*a.suggestion.interval)


def at_rest(panel, curve):
    "The settings once page, kernel and library agree"
    state = []
    def agree():
        s = panel.ask('settings')
        state[:] = (panel.controls(), panel.answer()), (s, expected(curve, s))
        alike = state[0][0] == s | {k: pytest.approx(s[k], rel=1e-4) for k in SETTINGS}
        return panel.rested() and state[0][1] == state[1][1] and alike and (s,)
    s, = panel.notebook.until(agree, lambda: f'{state[0]} shown, {state[1]} expected')
    a = analyse(curve, **s)
    assert panel.ask('lr') == (None if a.problem else a.suggestion.lr)
    return s


@pytest.fixture(scope='module')
def notebook(lab, curve, browser):
    "Two explorers of one curve"
    lab.write('two.ipynb', FIRST, SECOND)
    rights = ['clipboard-read', 'clipboard-write']
    nb = Notebook(lab, fresh_page(browser, accept_downloads=True, permissions=rights), 'two.ipynb')
    nb.run_all()
    yield nb
    nb.page.context.close()


@pytest.fixture
def second(notebook):
    yield Panel(notebook, 'second', 1)
    assert not said([notebook.page])


@pytest.fixture
def first(notebook, second, curve):
    panel = Panel(notebook, 'first')
    panel.ask('heard(dict(view=None))')
    panel.ask('reset()')
    at_rest(panel, curve)
    return panel


def test_begins_with_what_a_script_says(notebook, curve):
    panel = Panel(notebook, 'first')
    at_rest(panel, curve)
    assert panel.answer() == expected(curve, {})


@pytest.mark.parametrize('name', SLIDERS)
def test_keyboard(first, curve, name):
    "Page and arrow keys take steps, Home and End go to the ends, and the rate follows"
    down = name in ('beta', 'diverge_threshold')
    start, picture = at_rest(first, curve), first.picture()
    first.press(name, 'PageDown' if down else 'PageUp')
    moved = at_rest(first, curve)
    same = {k: v for k, v in moved.items() if k != name} == {k: v for k, v in start.items() if k != name}
    assert (moved[name] < start[name]) == down and same and first.picture() != picture
    first.press(name, 'ArrowRight')
    assert at_rest(first, curve)[name] > moved[name]
    control = first.ask(f"front.about['controls']['{name}']")
    for key, end in dict(Home=0, End=-1).items():
        first.press(name, key)
        want = control['stops'][end] if control.get('stops') else control['min' if key == 'Home' else 'max']
        assert at_rest(first, curve)[name] == (math.inf if want is None else want)
    assert first.slider(name)[0].evaluate('e => e === document.activeElement')      # the keys were ours


@pytest.mark.parametrize('name', SLIDERS)
def test_mouse(first, curve, name):
    "Rate and picture follow while the handle is dragged, and agree with the library when it is let go"
    pixels, rule = SLIDERS[name]
    first.rule(rule).check()
    start = at_rest(first, curve)
    first.watch()
    first.drag(name, pixels)
    pictures = lambda: len({s['picture'] for s in first.seen()})
    try: first.notebook.until(lambda: pictures() >= 3, lambda: f'{pictures()} pictures during the drag')
    finally: first.page.mouse.up()
    assert (at_rest(first, curve)[name] > start[name]) == (pixels > 0)


TYPED = [('diverge_threshold', '2.7', 2.7), ('diverge_threshold', '', math.inf), ('beta', '.33', .33),
         ('skip_start', '17', 17), ('skip_end', '99999', None), ('beta', '5', None)]


@pytest.mark.parametrize('name,typed,value', TYPED)
def test_a_number_can_be_typed(first, curve, name, typed, value):
    "It is taken as it is, or brought to the limit, and what is shown is what is used"
    field = first.slider(name)[1]
    field.fill(typed)
    field.press('Enter')
    field.evaluate('e => e.blur()')
    want = first.ask(f"controls['{name}'].max") if value is None else value
    now = lambda: first.ask(f"settings['{name}']")
    first.notebook.until(lambda: now() == want, now)
    at_rest(first, curve)


def test_a_step_can_be_seen(first, notebook):
    "One press of an arrow moves a handle by a pixel at least, with 10,000 points, too"
    module = "__import__('lrfinder_nb.show.controls', fromlist=['x'])"
    assert notebook.ask(f"{module}.controls_for(10000, first.settings)['skip_start'].step")*200/10_000 >= 1


def test_rules(first, curve):
    seen = set()
    for rule in RULES:
        first.rule(rule).check()
        assert at_rest(first, curve)['rule'] == rule
        seen.add(first.answer())
    assert len(seen) >= 3
    rows = first.box.locator('.lrx-rules tbody tr')
    for row, rule in zip(rows.all(), RULES):      # the table says what each rule reads
        a = analyse(curve, **first.ask('settings') | dict(rule=rule))
        said = lambda: a.suggestion.why in row.inner_text() and f'{a.suggestion.lr:.1e}' in row.inner_text()
        first.notebook.until(said, row.inner_text)


def test_rule_names_neither_overlap_nor_vanish(first):
    boxes = [t.bounding_box() for t in first.svg.locator('[data-layer=names] text').all()]
    assert len(boxes) == len(RULES)
    boxes.sort(key=lambda b: (round(b['y']), b['x']))
    for a, b in zip(boxes, boxes[1:]): assert abs(a['y'] - b['y']) > 5 or a['x'] + a['width'] <= b['x'] + 1


def test_reset_undo_redo(first, curve):
    start, answer, picture = at_rest(first, curve), first.answer(), first.picture()
    first.press('beta', 'PageDown')
    one = at_rest(first, curve)
    first.press('skip_start', 'PageUp', 'PageUp')
    two = at_rest(first, curve)
    for name, want in (('Undo', one), ('Undo', start), ('Redo', one), ('Redo', two)):
        first.button(name).click()
        first.notebook.until(lambda: first.ask('settings') == want, lambda: (name, first.ask('settings'), want))
        at_rest(first, curve)
    first.button('Reset').click()
    first.notebook.until(lambda: first.answer() == answer, first.answer)
    assert at_rest(first, curve) == start and first.picture() == picture


def test_use(first, second, curve):
    "What is in use is said in every explorer of the curve, and Reset leaves it"
    first.press('beta', 'PageDown')
    at_rest(first, curve)
    first.button('Use this rate').click()
    rate = lambda: first.ask('lr')
    told = lambda: first.ask('chosen') == rate() and f'using {rate():.1e}' in first.box.inner_text()
    first.notebook.until(told, lambda: first.ask('chosen'))
    used = f"in use: {first.ask('chosen'):.1e}"
    assert first.notebook.ask('handed == [first]') and used in first.box.inner_text()
    first.notebook.until(lambda: used in second.box.inner_text(), second.box.inner_text)
    first.button('Reset').click()
    at_rest(first, curve)
    assert f'{used}, not the rate that is shown' in first.box.inner_text()


def test_hover(first, curve):
    "The crosshair says step, rate and losses of the point below it, without asking the kernel"
    asked = first.ask('front.n')
    for i in (40, 70):
        x, y = first.place(curve.lrs[i])
        first.page.mouse.move(x, y)
        shown = ' '.join(first.over.locator('text').all_text_contents())
        loss = float(f'{curve.losses[i]:.5g}')
        assert f'step {i + 1}:' in shown and f'loss {loss:.5g}' in shown and 'smoothed' in shown
    assert first.ask('front.n') == asked
    a = analyse(curve, rule='steepest')
    names = first.svg.locator('[data-layer=names] text').first.bounding_box()
    first.page.mouse.move(first.place(a.suggestion.lr)[0], names['y'])
    shown = ' '.join(first.over.locator('text').all_text_contents())
    assert f'steepest: {a.suggestion.lr:.1e}' in shown and 'falls fastest' in shown


def test_choose_by_hand(first, curve, shots):
    "A click chooses a rate, a drag moves it, the panel compares it, and a rule brings the suggestion back"
    first.page.mouse.click(*first.place(1e-3))
    near = lambda rate: abs(math.log10((first.ask('lr') or 1)/rate)) < .05
    first.notebook.until(lambda: near(1e-3), lambda: first.ask('lr'))
    told = lambda: 'chosen by hand' in first.answer()[1] and 'below the suggestion' in first.box.inner_text()
    first.notebook.until(told, first.box.inner_text)
    first.page.screenshot(path=shots/'explorer-by-hand.png')
    first.pull(first.place(1e-3), first.place(1e-1))
    first.notebook.until(lambda: near(1e-1), lambda: first.ask('by_hand'))
    first.button('Use this rate').click()
    used = lambda: first.ask('chosen') == first.ask('by_hand')
    first.notebook.until(used, lambda: first.ask('chosen'))
    field = first.box.get_by_role('textbox', name='a rate of your own')
    field.fill('2e-3')
    field.press('Enter')
    first.notebook.until(lambda: first.ask('lr') == 2e-3, lambda: first.ask('lr'))
    first.rule('valley').check()
    assert at_rest(first, curve)['rule'] == 'valley'


def test_drag_on_the_picture(first, curve):
    "The edges of what is read, the limit of divergence and the smoother's width, and the sliders follow"
    first.pull(first.place(curve.lrs[10], None), first.place(curve.lrs[30], None))
    skipped = lambda: first.ask("settings['skip_start']")
    first.notebook.until(lambda: abs(skipped() - 30) <= 1, skipped)
    at_rest(first, curve)
    limit = first.ask("front.reading['limit']")
    at = lambda t: first.place(curve.lrs[5], limit['best'] + (t - 1)*limit['scale'])
    top = first.place(None, first.ask("front.reading['frame']['losses'][1]"))[1]
    first.pull((at(4)[0], max(at(4)[1], top)), at(2))
    threshold = lambda: first.ask("settings['diverge_threshold']")
    first.notebook.until(lambda: abs(threshold() - 2) < .1, threshold)
    at_rest(first, curve)
    before = first.ask("settings['beta']")
    grip = first.over.locator('[data-grip=smooth]').bounding_box()
    x, y = grip['x'] + grip['width']/2, grip['y'] + grip['height']/2
    first.pull((x, y), (x + 60, y))
    first.notebook.until(lambda: first.ask("settings['beta']") > before, lambda: first.ask('settings'))
    at_rest(first, curve)


def test_zoom(first, curve):
    "A drag along an axis, a wheel on it, the buttons and a double click"
    whole = first.ask("front.reading['frame']")
    x, _ = first.place(1e-3)
    low = first.place(None, whole['losses'][0])[1] + 15
    first.pull((x, low), (first.place(1e-1)[0], low))
    lrs = lambda: first.ask("front.reading['frame']['lrs']")
    near = lambda got, want: abs(math.log10(got/want)) < .1
    first.notebook.until(lambda: near(lrs()[0], 1e-3) and near(lrs()[1], 1e-1), lrs)
    assert at_rest(first, curve)['skip_start'] == 10      # the reading did not change
    first.page.mouse.dblclick(*first.place())
    by_hand = lambda: first.ask('by_hand')
    first.notebook.until(lambda: lrs() == whole['lrs'] and by_hand() is None, lambda: (lrs(), by_hand()))
    first.button('Zoom in').click()
    first.notebook.until(lambda: lrs()[1]/lrs()[0] < (whole['lrs'][1]/whole['lrs'][0])**.4, lrs)
    first.button('Whole curve').click()
    first.notebook.until(lambda: lrs() == whole['lrs'], lrs)
    first.box.get_by_role('checkbox', name='log loss').check()
    first.notebook.until(lambda: first.ask("front.reading['frame']['logLoss']"), 'a log scale')
    first.box.get_by_role('checkbox', name='log loss').uncheck()
    first.page.mouse.move(x, low)
    first.page.mouse.wheel(0, -100)
    first.notebook.until(lambda: lrs()[0] > whole['lrs'][0], lrs)


def test_copy_and_save(first, curve, tmp_path):
    page, choice = first.page, first.box.get_by_role('combobox', name='Copy or save')
    choice.select_option('Copy the line of code')
    text = first.notebook.until(lambda: page.evaluate('navigator.clipboard.readText()'), 'a copied line')
    assert text == f"fit_one_cycle(model, optimizer, loss_fn, train_dl, valid_dl, max_lr={first.ask('lr'):.1e})"
    files = {}
    for kind in ('PNG', 'SVG', 'CSV'):
        with page.expect_download() as download: choice.select_option(f'Save {kind}')
        files[kind] = tmp_path/f'curve.{kind.lower()}'
        download.value.save_as(files[kind])
    png = files['PNG'].read_bytes()
    assert png[:8] == b'\x89PNG\r\n\x1a\n' and len(png) > 5000
    assert '<path' in files['SVG'].read_text() and 'color="rgb' in files['SVG'].read_text()
    rows = [*csv.DictReader(files['CSV'].open())]
    assert [float(r['loss']) for r in rows] == curve.losses.tolist() and float(rows[3]['lr']) == curve.lrs[3]


def test_no_suggestion(first, curve):
    "A sentence, no line and nothing to use; and back"
    assert first.svg.locator('path.rate').count() == 1
    first.press('skip_start', 'End')
    problem = analyse(curve, **at_rest(first, curve)).problem
    assert problem and first.why.text_content() == problem
    assert first.svg.locator('path.rate').count() == 0 and first.button('Use this rate').is_disabled()
    first.press('skip_start', 'Home')
    at_rest(first, curve)
    assert first.svg.locator('path.rate').count() == 1 and first.button('Use this rate').is_enabled()


def test_nothing_blinks(first, curve):
    "From a move to rest, the band and the interval are never gone"
    at_rest(first, curve)
    first.watch()
    first.press('beta', *['ArrowLeft']*5)
    at_rest(first, curve)
    seen = first.seen()
    assert len(seen) > 3 and all(s['band'] for s in seen)


def test_names(first):
    "Everything has a name and a role for those who do not see it"
    for name in SLIDERS: first.box.get_by_role('slider', name=name, exact=True).wait_for()
    rate, why = first.rate.text_content(), first.why.text_content()
    assert first.box.get_by_role('img', name=f'{rate}: {why}').count() == 1
    assert rate in ' '.join(first.box.get_by_role('status').all_text_contents())


def test_two_explorers(first, second, curve):
    "One does not stir when the other is moved"
    for moved, still in ((first, second), (second, first)):
        before = at_rest(still, curve), still.answer(), still.picture()
        moved.press('beta', 'PageDown', 'PageDown')
        moved.press('skip_end', 'PageUp')
        at_rest(moved, curve)
        assert (at_rest(still, curve), still.answer(), still.picture()) == before and moved.picture() != before[2]
    ids = first.page.locator('.lrx [id]').evaluate_all('all => all.map(e => e.id)')
    assert len(set(ids)) == len(ids)


def test_code_moves_the_page(first, second, curve):
    "A value that is set from code shows on the page, and a second view of the same explorer agrees"
    first.ask("controls['skip_end'].set_trait('value', 9)")
    assert at_rest(first, curve)['skip_end'] == 9


def test_themes(first, shots):
    inks, page = {}, first.page
    try:
        for theme in ('Light', 'Dark'):
            first.notebook.command('apputils:change-theme', theme=f'JupyterLab {theme}')
            axis = first.svg.locator('text').first
            there = lambda: page.evaluate('document.body.dataset.jpThemeName') == f'JupyterLab {theme}'
            readable = lambda ink, back, contrast: contrast >= 7 and ink not in inks.values()
            first.notebook.until(lambda: there() and readable(*axis.evaluate(CONTRAST)), 'the theme changes')
            first.box.scroll_into_view_if_needed()      # the picture in it may be exchanged
            page.locator('#jupyterlab-splash').wait_for(state='hidden')
            page.screenshot(path=shots/f'explorer-{theme.lower()}.png')
            inks[theme] = axis.evaluate(CONTRAST)[0]
            for text in (first.rate, first.why): assert text.evaluate(CONTRAST)[2] >= 7
    finally: first.notebook.command('apputils:change-theme', theme='JupyterLab Light')


@pytest.mark.parametrize('width', [700, 1280, 3840])
def test_text_keeps_its_size(first, curve, width):
    "The picture is drawn for the width of its place"
    page = first.page
    try:
        page.set_viewport_size(dict(width=width, height=1000))
        place = first.box.locator('.lrx-picture')
        drawn = lambda: float(first.svg.get_attribute('width'))
        wide = lambda e: (e.bounding_box() or dict(width=0))['width']      # none while it is exchanged
        fits = lambda: all(abs(wide(e) - drawn()) < 5 for e in (first.svg, place))
        first.notebook.until(fits, lambda: (place.bounding_box(), drawn()))
        assert first.box.evaluate('e => e.scrollWidth <= e.clientWidth')
    finally: page.set_viewport_size(dict(width=1280, height=1000))
