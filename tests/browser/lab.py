"""JupyterLab on loopback, and a Chromium that uses it as a person would"""
import ast
import json
import math
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import nbformat

SETTINGS = 'beta', 'skip_start', 'skip_end', 'diverge_threshold'  # what has a slider
SECONDS = 30  # patience with anything the page should do
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync']
HARMLESS = (
    'ERR_INTERNET_DISCONNECTED',  # an exported page asks for scripts of the widgets, which it can do without
    'favicon.ico',
    "reading 'schema'",  # Notebook 7 by itself
)
READY = """() => {
  const s = window.jupyterapp?.shell.currentWidget?.sessionContext
  return s?.isReady && s.session?.kernel?.status === 'idle' }"""
ASK = """async code => {
  const k = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
  const asked = k.requestExecute({code: '', user_expressions: {x: code}, store_history: false, silent: true})
  const x = (await asked.done).content.user_expressions?.x
  if (x?.status !== 'ok') throw Error(JSON.stringify(x))
  return x.data['text/plain'] }"""
RUN = """i => {
  const content = window.jupyterapp.shell.currentWidget.content
  content.deselectAll()
  content.activeCellIndex = i
  window.jupyterapp.commands.execute('notebook:run-cell') }"""
COMMAND = '([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)'
WATCH = """box => {
  const drawn = () => box.querySelector('svg[role=img]')?.outerHTML
  const seen = box.seen = [], ids = new Map([[drawn(), 0]])
  box.watcher?.disconnect()
  box.watcher = new MutationObserver(() => {
    const band = !!box.querySelector('svg .interval'), rest = box.dataset.rest === 'true'
    const picture = drawn()
    if (!ids.has(picture)) ids.set(picture, ids.size)
    const rate = box.querySelector('.lrx-rate')?.textContent
    const s = {at: performance.now(), rate, band, rest, picture: ids.get(picture)}
    seen.push(s)
    requestAnimationFrame(() => {
      const c = new MessageChannel()
      c.port1.onmessage = () => s.painted = performance.now()
      c.port2.postMessage(0) }) })
  box.watcher.observe(box, {subtree: true, childList: true, characterData: true}) }"""
QUIET = {'disabledExtensions': {'@jupyterlab/apputils-extension:announcements': True}}


def chromium():
    "Path of the browser, or None"
    return shutil.which(os.environ.get('CHROMIUM') or 'chromium')


def said(pages):
    "Errors of pages, without those that mean nothing"
    return [e for p in pages for e in p.errors if not any(h in e for h in HARMLESS)]


class Lab:
    "A running server"
    def __init__(self, url, token, folder, app):
        self.url, self.token, self.folder, self.app = url, token, folder, app

    def ask(self, path, method='GET'):
        "What the server answers, parsed"
        headers = {'Authorization': f'token {self.token}'}
        request = Request(f'{self.url}/api/{path}', headers=headers, method=method)
        with build_opener(ProxyHandler({})).open(request, timeout=10) as r:
            return json.loads(r.read() or 'null')

    def write(self, name, *cells):
        "A notebook of code cells"
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        nb.metadata.kernelspec = dict(name='python3', display_name='Python 3', language='python')
        nbformat.write(nb, self.folder/name)

    def stop_kernels(self):
        for s in self.ask('sessions'): self.ask(f"sessions/{s['id']}", 'DELETE')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@contextmanager
def running(command, log, ready, env=None, cwd=None):
    "A server until the block ends; `ready()` raises `OSError` while it is not there yet"
    with log.open('w') as out:
        where = dict(env=env, cwd=cwd, stdout=out, stderr=out)
        server = subprocess.Popen([sys.executable, '-m', *command], start_new_session=True, **where)
    try:
        until = time.time() + 2*SECONDS
        while True:
            assert server.poll() is None and time.time() < until, f'the server did not start: {log.read_text()[-2000:]}'
            try:
                ready()
                break
            except OSError: time.sleep(.1)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try: server.wait(20)
        except subprocess.TimeoutExpired: os.killpg(server.pid, signal.SIGKILL)


@contextmanager
def serving(root:Path, app='lab'):
    "A `Lab` with its own settings and files under `root`; `app` is 'lab' or 'notebook'"
    folder, config, port = root/'notebooks', root/'config', free_port()
    folder.mkdir()
    (config/'labconfig').mkdir(parents=True)
    (config/'labconfig/page_config.json').write_text(json.dumps(QUIET))
    lab = Lab(f'http://127.0.0.1:{port}', secrets.token_hex(16), folder, app)
    homes = {f'JUPYTER_{name.upper()}_DIR': str(root/name) for name in ('config', 'data', 'runtime')}
    env = dict(os.environ, JUPYTER_TOKEN=lab.token, IPYTHONDIR=str(root/'ipython'), **homes)
    command = [dict(lab='jupyterlab', notebook='notebook')[app], '--no-browser', '--ip=127.0.0.1', f'--port={port}',
               '--ServerApp.port_retries=0', '--allow-root', f'--ServerApp.root_dir={folder}',
               '--expose-app-in-browser']
    if app == 'lab': command.append('--LabApp.extension_manager=readonly')
    with running(command, root/'server.log', lambda: lab.ask('status'), env):
        yield lab
        lab.stop_kernels()


@contextmanager
def browsing():
    "A Chromium"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
        try: yield browser
        finally: browser.close()


def fresh_page(browser, **kw):
    "A page of a new profile; `page.errors` collects what goes wrong in it"
    page = browser.new_context(viewport=dict(width=1280, height=1000), **kw).new_page()
    page.set_default_timeout(1e3*SECONDS)
    page.errors = []
    page.on('pageerror', lambda e: page.errors.append(str(e)))
    def heard(message):
        if message.type == 'error': page.errors.append(f"{message.text} {message.location.get('url', '')}")
    page.on('console', heard)
    return page


class Notebook:
    "A notebook open in a page"
    def __init__(self, lab, page, name):
        self.lab, self.page, self.name = lab, page, name
        page.goto(f"{lab.url}/{dict(lab='lab/tree', notebook='notebooks')[lab.app]}/{name}?token={lab.token}&reset")
        page.wait_for_selector('.jp-Notebook .jp-CodeCell')
        page.wait_for_function(READY)       # else 'Run All Cells' asks for a kernel
        self.twins = page.locator('.jp-OutputArea img[src^="data:image/svg"]')

    def menu(self, *names):
        "Click through a menu; a shortcut may follow a name"
        for name in names:
            pattern = re.compile(rf'^{name}( [A-Z,⌘⇧ ]+)?$')
            self.page.get_by_role('menuitem', name=pattern).click()

    def command(self, name, **args):
        "Run a command of JupyterLab"
        self.page.evaluate(COMMAND, [name, args])

    def run_all(self): self.menu('Run', 'Run All Cells')

    def run(self, *cells):
        "Run cells without waiting for them"
        for i in cells: self.page.evaluate(RUN, i)

    def ask(self, expression):
        "The value of an expression in the kernel"
        return json.loads(ast.literal_eval(self.page.evaluate(ASK, f'__import__("json").dumps({expression})')))

    def until(self, true, what, seconds=SECONDS):
        "Wait until `true()`, which is returned"
        end = time.time() + seconds
        while not (found := true()):
            assert time.time() < end, f'not within {seconds} s: {what() if callable(what) else what}'
            self.page.wait_for_timeout(30)
        return found


class Panel:
    "An explorer on a page, and its name in the kernel"
    def __init__(self, notebook, name, nth=0):
        self.notebook, self.page, self.name = notebook, notebook.page, name
        self.box = notebook.page.locator('.lrx').nth(nth)
        parts = '.lrx-rate', '.lrx-why', 'svg[role=img]', '.lrx-over'
        self.rate, self.why, self.svg, self.over = map(self.box.locator, parts)
        self.rate.wait_for()
        self.svg.wait_for()

    def ask(self, attribute): return self.notebook.ask(f'{self.name}.{attribute}')
    def button(self, name): return self.box.get_by_role('button', name=name, exact=True)
    def picture(self): return self.svg.evaluate('e => e.outerHTML')
    def rule(self, name): return self.box.get_by_role('radio', name=name, exact=True)

    def answer(self):
        "(rate, interval)"
        return tuple(self.box.locator(f'.lrx-answer {s}').text_content() for s in ('.lrx-rate', '.lrx-interval'))

    def slider(self, name):
        "(range, number)"
        number = self.box.get_by_role('spinbutton', name=f'{name}, as a number')
        return self.box.get_by_role('slider', name=name, exact=True), number

    def controls(self):
        "What the controls show"
        shown = {name: self.slider(name)[1].input_value() for name in SETTINGS}
        numbers = {name: float(v) if v else float('inf') for name, v in shown.items()}
        return numbers | dict(rule=self.box.locator('.lrx-rules tr:has(input:checked) label').text_content().strip())

    def press(self, name, *keys):
        "Press keys on a slider"
        for key in keys: self.slider(name)[0].press(key)

    def grip(self, name):
        "Where the handle of a slider is, in pixels"
        handle, _ = self.slider(name)
        handle.scroll_into_view_if_needed()
        box, share = handle.bounding_box(), handle.evaluate('e => (e.value - e.min)/(e.max - e.min)')
        return box['x'] + 8 + (box['width'] - 16)*share, box['y'] + box['height']/2

    def drag(self, name, pixels, steps=25):
        "Drag the handle of a slider and hold it there"
        x, y = self.grip(name)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for i in range(1, steps + 1): self.page.mouse.move(x + pixels*i/steps, y)

    def place(self, lr=None, loss=None):
        "Where a rate and a loss lie on the page"
        self.over.scroll_into_view_if_needed()
        frame, box = self.ask("front.reading['frame']"), self.over.bounding_box()
        def share(v, ends, log):
            if log: return math.log(v/ends[0])/math.log(ends[1]/ends[0])
            return (v - ends[0])/(ends[1] - ends[0])
        x = .5 if lr is None else share(lr, frame['lrs'], frame['log'])
        y = .5 if loss is None else share(loss, frame['losses'], False)
        k = box['width']/frame['width']
        left, top = box['x'] + k*frame['left'], box['y'] + k*frame['bottom']
        return left + k*x*(frame['right'] - frame['left']), top - k*y*(frame['bottom'] - frame['top'])

    def pull(self, start, end, steps=12):
        "Drag on the picture from one place to another"
        self.page.mouse.move(*start)
        self.page.mouse.down()
        for i in range(1, steps + 1): self.page.mouse.move(*(a + (b - a)*i/steps for a, b in zip(start, end)))
        self.page.mouse.up()

    def rested(self):
        "Nothing that was moved waits for its answer, or for an interval"
        return self.box.evaluate("box => box.dataset.rest === 'true' && !('stale' in box.dataset)")

    def watch(self): self.box.evaluate(WATCH)
    def seen(self): return self.box.evaluate('box => box.seen')
