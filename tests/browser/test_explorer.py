"""The explorer in JupyterLab: what hand and mouse move is what the library says"""
import pytest
from lab import Notebook, Panel, fresh_page, said

from lrfinder_nb.core.suggest import RULES, analyse

FIRST = "from lrfinder_nb.core.curve import load_curve\nfrom lrfinder_nb.show.explorer import LRExplorer\nfirst = LRExplorer(load_curve('curve.json'))\nfirst"
SECOND = "second = LRExplorer(load_curve('curve.json'))\nsecond"
SLIDERS = dict(beta=(-80, 'minimum', 3), skip_start=(100, 'valley', 3), skip_end=(90, 'minimum', 3), diverge_threshold=(-95, 'valley', 2))    # how far to drag, under which rule, and rates to see on the way
CONTRAST = """e => { const rgb = c => { const [r, g, b, a = 1] = c.match(/[\\d.]+/g).map(Number); return {c: [r, g, b], a} };
  let box = e; while (rgb(getComputedStyle(box).backgroundColor).a === 0) box = box.parentElement;
  const back = rgb(getComputedStyle(box).backgroundColor).c, s = getComputedStyle(e), ink = rgb(e.tagName === 'text' ? s.fill : s.color), front = ink.c.map((v, i) => ink.a*v + (1 - ink.a)*back[i]),
    light = c => c.map(v => v/255).map(v => v <= .04045 ? v/12.92 : ((v + .055)/1.055)**2.4).reduce((t, v, i) => t + v*[.2126, .7152, .0722][i], 0),
    [a, b] = [light(front), light(back)].sort((a, b) => b - a); return [front.map(Math.round), back, (a + .05)/(b + .05)] }"""


def expected(curve, settings):
    "(rate, interval) as the page should show them"
    a = analyse(curve, **settings)
    return ('no suggestion', '') if a.problem else (f'lr {a.suggestion.lr:.2e}', ' ({:.1e} to {:.1e})'.format(*a.suggestion.interval))


def at_rest(panel, curve):
    "The settings once page, kernel and library agree"
    state = []
    def agree():
        s = panel.ask('settings')
        state[:] = (panel.controls(), panel.answer()), (s, expected(curve, s))
        return state[0][1] == state[1][1] and state[0][0] == s | dict(beta=pytest.approx(s['beta'], abs=.0051)) and (s,)     # a slider shows round numbers
    s, = panel.notebook.until(agree, lambda: f'{state[0]} shown, {state[1]} expected')
    a = analyse(curve, **s)
    assert panel.ask('lr') == (None if a.problem else a.suggestion.lr)
    return s


@pytest.fixture(scope='module')
def notebook(lab, curve, browser):
    "Two explorers of one curve"
    lab.write('two.ipynb', FIRST, SECOND)
    nb = Notebook(lab, fresh_page(browser), 'two.ipynb')
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
    start, picture, (handle, readout) = at_rest(first, curve), first.picture(), first.slider(name)
    first.press(name, *['PageDown' if down else 'PageUp']*2)
    moved = at_rest(first, curve)
    assert (moved[name] < start[name]) == down and {k: v for k, v in moved.items() if k != name} == {k: v for k, v in start.items() if k != name} and first.picture() != picture
    first.press(name, 'ArrowRight')
    assert at_rest(first, curve)[name] > moved[name]
    for key, end in dict(Home=0, End=-1).items():
        first.press(name, key)
        values = first.ask(f"controls['{name}'].{'options' if name == 'diverge_threshold' else 'min' if key == 'Home' else 'max'}")
        assert at_rest(first, curve)[name] == (values[end][1] if isinstance(values, list) else values)


@pytest.mark.parametrize('name', SLIDERS)
def test_mouse(first, curve, name):
    "Rate and picture follow while the handle is dragged, and agree with the library when it is let go"
    pixels, rule, rates = SLIDERS[name]
    first.box.get_by_role('combobox').select_option(rule)
    start = at_rest(first, curve)
    first.watch()
    first.drag(name, pixels)
    try: first.notebook.until(lambda: len({s['picture'] for s in first.seen()}) >= 3 and len({s['rate'] for s in first.seen()}) >= rates, lambda: f'{rates} rates during the drag, but {first.seen()}')
    finally: first.page.mouse.up()
    assert (at_rest(first, curve)[name] > start[name]) == (pixels > 0)


def test_rules(first, curve):
    seen = set()
    for rule in RULES:
        first.box.get_by_role('combobox').select_option(rule)
        assert at_rest(first, curve)['rule'] == rule
        seen.add(first.answer())
    assert len(seen) >= 3


def test_reset(first, curve):
    start, answer, picture = at_rest(first, curve), first.answer(), first.picture()
    first.press('beta', 'PageDown'); first.press('skip_start', 'PageUp'); first.press('skip_end', 'PageUp'); first.press('diverge_threshold', 'Home')
    first.box.get_by_role('combobox').select_option('steepest')
    assert not set(at_rest(first, curve).items()) & set(start.items())
    first.button('Reset').click()
    first.notebook.until(lambda: first.answer() == answer, first.answer)
    assert at_rest(first, curve) == start and first.picture() == picture


def test_use(first, curve):
    first.press('beta', 'PageDown')
    at_rest(first, curve)
    first.button('Use this rate').click()
    first.notebook.until(lambda: first.ask('chosen') == first.ask('lr') and f"using {first.ask('lr'):.2e}" in first.box.inner_text(), lambda: first.ask('chosen'))


def test_no_suggestion(first, curve):
    "A sentence, no line and nothing to use; and back"
    assert first.svg.locator('path.rate').count() == 1
    first.press('skip_start', 'End')
    problem = analyse(curve, **at_rest(first, curve)).problem
    assert problem and first.why.text_content() == problem and first.svg.locator('path.rate').count() == 0 and first.button('Use this rate').is_disabled()
    first.press('skip_start', 'Home')
    at_rest(first, curve)
    assert first.svg.locator('path.rate').count() == 1 and first.button('Use this rate').is_enabled()


def test_names(first):
    "Everything has a name and a role for those who do not see it"
    for name in SLIDERS: first.box.get_by_role('slider', name=name, exact=True).wait_for(timeout=5e3)
    rate, why = first.rate.text_content(), first.why.text_content()
    assert first.box.get_by_role('img', name=f'{rate}: {why}').count() == 1
    assert rate in first.box.get_by_role('status').text_content()
    assert first.box.get_by_role('combobox', name='rule').count() == 1


def test_labels_are_not_cut(first):
    for label in first.box.locator('.widget-label').all(): assert label.evaluate('e => e.scrollWidth <= e.clientWidth'), label.text_content()


def test_two_explorers(first, second, curve):
    "One does not stir when the other is moved"
    for moved, still in ((first, second), (second, first)):
        before = at_rest(still, curve), still.answer(), still.picture()
        moved.press('beta', 'PageDown', 'PageDown'); moved.press('skip_end', 'PageUp')
        at_rest(moved, curve)
        assert (at_rest(still, curve), still.answer(), still.picture()) == before and moved.picture() != before[2]
    ids = first.page.locator('.lrx clipPath').evaluate_all('all => all.map(e => e.id)')
    assert len(set(ids)) == len(ids) == 2


def test_themes(first, shots):
    inks, page = {}, first.page
    try:
        for theme in ('Light', 'Dark'):
            first.notebook.command('apputils:change-theme', theme=f'JupyterLab {theme}')
            axis = first.svg.locator('text').first
            first.notebook.until(lambda: page.evaluate('document.body.dataset.jpThemeName') == f'JupyterLab {theme}' and axis.evaluate(CONTRAST)[0] not in inks.values(), 'the theme changes')
            first.svg.scroll_into_view_if_needed()
            page.locator('#jupyterlab-splash').wait_for(state='hidden')
            page.screenshot(path=shots/f'explorer-{theme.lower()}.png')
            inks[theme], _, contrast = axis.evaluate(CONTRAST)
            assert contrast >= 7
            for text in (first.rate, first.why): assert text.evaluate(CONTRAST)[2] >= 7
    finally: first.notebook.command('apputils:change-theme', theme='JupyterLab Light')
