"""The site: built from the committed notebooks, read in a browser, refused where a notebook is wrong"""
import copy
import functools
import os
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT/'docs'), str(ROOT/'tests/browser')]
from lab import browsing, chromium  # noqa: E402

NEEDS = {'sphinx': 'sphinx', 'myst_nb': 'myst-nb', 'furo': 'furo',
         'sphinx_copybutton': 'sphinx-copybutton', 'latex2mathml': 'latex2mathml'}
BROWSES = {'playwright': 'playwright', 'axe_playwright_python': 'axe-playwright-python'}


def need(modules, *others):
    "A skip, or a failure where LRFINDER_BROWSER=required, that says what is missing"
    missing = [f'no {m} (pip install {p})' for m, p in modules.items() if find_spec(m) is None]
    gone = ', '.join(missing + [o for o in others if o])
    if gone and os.environ.get('LRFINDER_BROWSER') == 'required':
        pytest.fail(f'the tests of the site cannot run: {gone}')
    if gone: pytest.skip(f'skipped the tests of the site: {gone}')


@pytest.fixture(scope='module')
def html():
    "Folder of the site, built with warnings as errors"
    need(NEEDS)
    src, out = ROOT/'_docs/src', ROOT/'_docs/html'
    src.mkdir(parents=True, exist_ok=True)
    options = ['-q', '-a', '-E', '-W', '--keep-going', '-c', ROOT/'docs', '-d', ROOT/'_docs/cache', src, out]
    call = [sys.executable, '-m', 'sphinx', *map(str, options)]
    r = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert r.returncode == 0, r.stderr[-4000:]
    return out


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope='module')
def url(html):
    "Where the site is served"
    server = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()


@pytest.fixture(scope='module')
def browser(url):
    need(BROWSES, None if chromium() else 'no chromium (apt-get install chromium)')
    with browsing() as b: yield b


@pytest.fixture
def new_page(browser, url):
    "Makes pages that may have no errors and ask nobody but localhost"
    pages, wrong = [], []
    def make(**kw):
        page = browser.new_context(**{'viewport': dict(width=1280, height=900), **kw}).new_page()
        def console(m):
            if m.type == 'error': wrong.append(f'{page.url}: {m.text}')
        def request(r):
            if not r.url.startswith((url, 'data:', 'blob:')): wrong.append(f'{page.url}: asked for {r.url}')
        page.on('pageerror', lambda e: wrong.append(f'{page.url}: {e}'))
        page.on('console', console)
        page.on('request', request)
        pages.append(page)
        return page
    yield make
    for p in pages: p.context.close()
    assert not wrong


def sitemap(html):
    "Names of all pages"
    from cells import settings
    ini = settings()
    base = f"{ini['doc_host']}{ini['doc_baseurl']}".rstrip('/') + '/'
    loc = '{http://www.sitemaps.org/schemas/sitemap/0.9}loc'
    urls = [e.text for e in ElementTree.parse(html/'sitemap.xml').iter(loc)]
    assert urls and all(u.startswith(base) for u in urls)
    return [u.removeprefix(base) for u in urls]


def shot(page, name):
    "Keep a picture of the whole page in LRFINDER_SHOTS"
    folder = os.environ.get('LRFINDER_SHOTS')
    if folder: page.screenshot(path=Path(folder)/f'{name}.png', full_page=True)


CUT = """[...document.querySelectorAll('.highlight pre, .cell_output')].filter(e => e.scrollWidth > e.clientWidth + 1)
  .map(e => e.textContent.slice(0, 60))"""
BROKEN = '[...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.alt)'


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_every_page(html, url, new_page, scheme):
    "It loads, has a title, a description and words for its pictures, fits a phone, and axe does not complain"
    from axe_playwright_python.sync_playwright import Axe
    page, bad, seen = new_page(color_scheme=scheme), [], set()
    options = {'resultTypes': ['violations']}
    if scheme == 'dark': options['runOnly'] = ['color-contrast']        # the rest does not depend on colours
    for name in sitemap(html):
        page.set_viewport_size(dict(width=1280, height=900))
        page.goto(url + name)
        title, about = page.title(), page.locator('meta[name=description]').get_attribute('content')
        assert len(about) > 20 and (title, about) not in seen, name      # two modules may share a name
        seen.add((title, about))
        found = Axe().run(page, options=options).response['violations']
        grave = [v for v in found if v['impact'] in ('serious', 'critical')]
        bad += [f'{name}: {v["id"]}: {n["target"]}: {n["html"][:150]}' for v in grave for n in v['nodes'][:3]]
        bad += [f'{name}: a picture that does not show: {alt}' for alt in page.evaluate(BROKEN)]
        bad += [f'{name}: cut off on the right: {words}' for words in page.evaluate(CUT)]
        bad += [f'{name}: a picture without words' for _ in page.locator('img:not([alt]), img[alt=""]').all()]
        shot(page, f"{name[:-5].replace('/', '-')}-{scheme}")
        page.set_viewport_size(dict(width=390, height=844))
        wide = page.evaluate('document.documentElement.scrollWidth')
        if wide > 390: bad.append(f'{name}: {wide} px wide on a phone')
    assert not bad, '\n'.join(bad)


def test_dark(url, new_page):
    "Background and ink change places, by preference and by button"
    ink = 'getComputedStyle(document.body).color + getComputedStyle(document.body).backgroundColor'
    light, dark = new_page(color_scheme='light'), new_page(color_scheme='dark')
    for p in (light, dark): p.goto(url)
    first = light.evaluate(ink)
    assert first != dark.evaluate(ink)
    toggle, seen = light.locator('button.theme-toggle:visible').first, {first}
    for _ in range(3):
        toggle.click()
        seen.add(light.evaluate(ink))
    assert len(seen) == 2
    assert 'invert' in dark.locator('img.plot').first.evaluate('e => getComputedStyle(e).filter')


def test_reduced_motion(url, new_page):
    "The moving picture stands still for those who ask for that, and keeps its words"
    moving, still = new_page(), new_page(reduced_motion='reduce')
    for page in (moving, still): page.goto(url)
    words = moving.locator('img[src$=".gif"]').get_attribute('alt')
    picture = still.get_by_role('img', name=words)
    still.locator('canvas').wait_for()
    assert still.locator('img[src$=".gif"]').count() == 0 and picture.bounding_box()['width'] > 400


def test_search(url, new_page):
    page = new_page()
    page.goto(url + 'search.html?q=diverge_threshold')
    page.wait_for_selector('ul.search li a')
    assert page.locator('ul.search li a').count() >= 3
    page.locator('ul.search', has_text='diverge_threshold').wait_for()      # the excerpts come later


def test_try(url, new_page):
    "Sliders move the rate and the curve, by keyboard too, and every answer is the library's"
    from lrfinder_nb import analyse, load_curve
    curve = load_curve(ROOT/'docs/data/sweep.json')
    for name in ('', 'try.html'):
        page = new_page()
        page.goto(url + name)
        rate, path = page.locator('#tryit .lrx-rate'), page.locator('#tryit path.trend')
        path.wait_for(state='attached')
        state = lambda: (rate.inner_text(), path.get_attribute('d'))
        field = lambda name: float(page.get_by_role('spinbutton', name=f'{name}, as a number').input_value())
        says = lambda **settings: f'lr {analyse(curve, **{"diverge_threshold": 4, **settings}).suggestion.lr:.1e}'
        start = state()
        assert start[0] == says() and page.locator('#try-still').count() == 0
        page.get_by_role('slider', name='beta').focus()
        for _ in range(8): page.keyboard.press('ArrowRight')
        stiff = state()
        assert stiff[1] != start[1] and stiff[0] == says(beta=field('beta'))
        page.get_by_role('button', name='Reset').click()
        assert state() == start
        page.get_by_role('radio', name='steepest').check()
        page.get_by_role('slider', name='skip_start').press('ArrowRight')
        assert rate.inner_text() == says(rule='steepest', skip_start=int(field('skip_start')))
        page.get_by_role('slider', name='diverge_threshold').press('Home')
        cut = says(rule='steepest', skip_start=int(field('skip_start')), diverge_threshold=field('diverge_threshold'))
        assert rate.inner_text() == cut
        assert page.get_by_role('button', name='Use this rate').count() == 0


def test_api(html):
    "Each public name has an entry that others can link to, and each parameter has a description"
    import lrfinder_nb
    from sphinx.util.inventory import InventoryFile
    with open(html/'objects.inv', 'rb') as f: inv = InventoryFile.load(f, '', lambda base, uri: uri)
    entries = {name: item for kind in inv if kind.startswith('py:') for name, item in inv[kind].items()}
    pages = {p: p.read_text() for p in (html/'api').rglob('*.html')}
    for name in lrfinder_nb.__all__:
        if name == '__version__': continue
        assert f'lrfinder_nb.{name}' in entries, name
        uri = entries[f'lrfinder_nb.{name}'].uri
        file, _, anchor = uri.partition('#')
        entry = re.search(rf'<dt class="sig[^"]*" id="{re.escape(anchor)}">.*?</dd></dl>', pages[html/file], re.S)
        assert entry, name
        words = {m for m in re.findall(r'<strong>\**([\w]+)</strong> – \S', entry[0])}
        obj = getattr(lrfinder_nb, name)
        code = getattr(obj.__init__ if isinstance(obj, type) else obj, '__code__', None)
        arguments = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount] if code else ()
        assert not set(arguments) - {'self'} - words, name


def test_words_are_about_what_is_there():
    "A description in words.toml names a parameter or a property of today"
    import inspect
    import tomllib
    import lrfinder_nb
    words = tomllib.loads((ROOT/'docs/words.toml').read_text(encoding='utf-8'))
    for key in (*words['parameters'], *words['members']):
        name, _, parameter = key.removesuffix(')').partition('(')
        obj = lrfinder_nb
        for part in filter(None, name.split('.')): obj = getattr(obj, part)
        if name and parameter: assert parameter.strip('*') in inspect.signature(obj).parameters, key


def test_constants_are_described_or_private():
    need(NEEDS)
    from bridge import Site
    assert not Site(ROOT/'_docs/none').code.undescribed()      # a comment beside it, or a line in docs/words.toml


def test_size(html):
    files = [p for p in html.rglob('*') if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 16*2**20
    index = html/'index.html'
    parts = set(re.findall(r'(?:src|href)="(_(?:static|images)/[^"?#]+)', index.read_text()))
    assert '_images/sliders.gif' in parts
    front = sum(p.stat().st_size for p in (index, *(html/name for name in parts)))
    assert front <= 2**20, front


def test_the_moving_picture():
    "It moves, for some seconds, at most 400 KB of it"
    Image = pytest.importorskip('PIL.Image')
    path = ROOT/'docs/data/sliders.gif'
    assert path.stat().st_size <= 400*1024
    with Image.open(path) as film:
        holds = []
        for i in range(film.n_frames):
            film.seek(i)
            holds.append(film.info['duration'])
    assert len(holds) > 20 and 5_000 <= sum(holds) <= 20_000, holds


def test_lists(html):
    "llms.txt names every page of the sitemap; icon and preview are there"
    text = (html/'llms.txt').read_text()
    assert all(name in text for name in sitemap(html) if name != 'index.html')
    assert (html/'_static/favicon.svg').exists()
    size = (1200).to_bytes(4, 'big') + (630).to_bytes(4, 'big')
    assert (html/'_static/social.png').read_bytes()[16:24] == size


def test_readme(html):
    "Links and pictures of the README are absolute, and what they name is there"
    from cells import settings
    ini, there = settings(), set(sitemap(html))
    targets = re.findall(r'\]\(([^)\s]+)\)', (ROOT/'README.md').read_text())
    base = f"{ini['doc_host']}{ini['doc_baseurl']}/"
    raw = f"https://raw.githubusercontent.com/{ini['user']}/{ini['repo']}/{ini['branch']}/"
    assert any(t.startswith(raw) for t in targets) and any(t.startswith(base) for t in targets)
    for t in targets:
        if t.startswith(base): assert t.removeprefix(base).partition('#')[0] in there, t
        elif t.startswith(raw): assert (ROOT/t.removeprefix(raw).partition('?')[0]).is_file(), t
        elif t.startswith(ini['git_url']):
            assert (ROOT/re.sub('^/(tree|blob)/[^/]+/', '', t.removeprefix(ini['git_url']))).exists(), t
        else: assert t.startswith('https://'), t


def test_the_readme_is_short():
    "At most 500 words before the table of pages; code, outputs and pictures do not count"
    text = (ROOT/'README.md').read_text().split('## Which page')[0]
    for aside in (r'^```.*?^```$', r'^    .*?$', r'<!--.*?-->', r'^<table>.*?$', r'^!\[.*?$', r'\]\(\S+\)'):
        text = re.sub(aside, '', text, flags=re.M | re.S)
    words = re.findall(r"[\w'`_().-]*\w[\w'`_().-]*", text)
    assert 200 < len(words) <= 500, len(words)


# What bad input gets

@pytest.fixture
def wrong(tmp_path):
    "What the bridge says about the quickstart after a change to it"
    need(NEEDS)
    import nbformat
    from bridge import Faults, Site
    from run_nbs import fingerprint
    good = nbformat.read(ROOT/'nbs/tutorials/quickstart.ipynb', 4)
    def said(change, executed=True):
        nb = copy.deepcopy(good)
        change(nb.cells)
        if executed: nb.metadata['executed'] = fingerprint(nb)
        (tmp_path/'nbs/tutorials').mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, tmp_path/'nbs/tutorials/quickstart.ipynb')
        site = Site(tmp_path/'src', nbs=tmp_path/'nbs')
        try: site.stage(lambda name: '')
        except Faults as e: return str(e)
        return ''
    return said


def code_at(cells):
    "Index of the first code cell with an output"
    found = ((i, c) for i, c in enumerate(cells) if c.cell_type == 'code' and c.outputs)
    return next(i for i, c in found if not c.source.startswith('#'))


def test_refused(wrong):
    name = 'tutorials/quickstart.ipynb'
    import nbformat
    good = nbformat.read(ROOT/'nbs'/name, 4).cells
    i = code_at(good)
    def source(j, f):
        def change(cells): cells[j]['source'] = f(cells[j].source)
        return change
    assert f"{name}, cell {i}: unknown directive 'ecko'" in wrong(source(i, lambda s: '#| ecko: false\n' + s))
    assert f'{name}, cell {i}: echo must be true or false' in wrong(source(i, lambda s: '#| echo: maybe\n' + s))
    longer = source(0, lambda s: s + '\n\nA line more.')
    assert f'{name}, cell 0: this line of the title cell would be lost' in wrong(longer)
    linked = source(1, lambda s: s + ' [there](nowhere.ipynb)')
    assert f'{name}, cell 1: broken link to nowhere.ipynb' in wrong(linked)
    error = nbformat.v4.new_output('error', ename='KeyError', evalue='x', traceback=[])
    def failed(cells): cells[i].outputs = [error]
    assert f'{name}, cell {i}: ended in KeyError' in wrong(failed)
    def unrun(cells): cells.append(nbformat.v4.new_code_cell('finder.suggestion'))
    stale = 'was changed, added or removed and not executed'
    assert f'{name}, cell {len(good)}: {stale}' in wrong(unrun, executed=False)
    assert f'{name}, cell {i}: {stale}' in wrong(source(i, lambda s: s + '  # now'), executed=False)
    def without(cells): del cells[i]
    assert stale in wrong(without, executed=False)
    pictured = lambda c: any('image/png' in o.get('data', {}) for o in c.get('outputs', []))
    plot = next(j for j, c in enumerate(good) if pictured(c))
    assert f'{name}, cell {plot}: a picture without words' in wrong(source(plot, lambda s: 'draw()'))
    def blind(cells): cells[plot].outputs = []
    assert f'{name}, cell {plot}: has words for a picture and shows none' in wrong(blind)


def test_directives():
    "What each directive does to a cell"
    need(NEEDS)
    import nbformat
    from bridge import Notebook, Site
    site = Site(ROOT/'_docs/none')
    out = [nbformat.v4.new_output('stream', name='stdout', text='hi')]
    new = nbformat.v4.new_code_cell
    notebook = Notebook(Path('x.ipynb'), nbformat.v4.new_notebook(cells=[new('#| default_exp x')]), site)
    cell = lambda s: list(notebook.code_cells(1, new(s, outputs=out)))
    assert cell('#| hide\nx') == [] == cell('#| include: false\nx') == cell('#| export\nimport x')
    assert cell('#| echo: false\nx')[0].metadata.tags == ['remove-input']
    assert cell('#| output: false\nx')[0].outputs == [] and cell('#| eval: false\nx')[0].source == 'x'
    assert cell('#| code-fold: true\nx')[0].metadata.tags == ['hide-input']
    internal = cell('#| export\ndef f(a  # an a\n     ):\n    "Does `it`"')
    assert [c.cell_type for c in internal] == ['markdown', 'code', 'markdown', 'code']
    assert '<summary><code>f</code>: Does <code>it</code></summary>' in internal[0].source
    shown = cell('#| exports\ndef f(a  # an a\n     ):\n    "Does it"')
    assert [c.cell_type for c in shown] == ['code', 'markdown']
    assert [c.cell_type for c in cell('#| exporti\ndef _f(): pass')] == ['code']
    code = '#| export\ndef f(a:int=3,  # an a\n      *b  # the rest\n     ) -> int:  # its size\n    "Does it"'
    entry = cell(code)[0].source
    assert '{py:function} f(a: int=3, *b) -> int' in entry and ':param a: an a' in entry
    assert r':param \*b: the rest' in entry and ':returns: its size' in entry
