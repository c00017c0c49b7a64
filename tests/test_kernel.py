"""In a real kernel, without a browser: what a notebook sends and what it gets back"""
import time
from queue import Empty

import pytest
from jupyter_client.manager import start_new_kernel

SETUP = '''
import copy, json, time, torch
from torch import nn
from ipywidgets.widgets.widget import _instances
from lrfinder_nb import LRFinder, analyse
torch.manual_seed(0)
X = torch.randn(64, 8); Y = X[:, :1].tanh()
model = nn.Linear(8, 1); before = copy.deepcopy(model.state_dict())
finder = LRFinder(model, torch.optim.AdamW(model.parameters()), nn.functional.mse_loss)
def slow(n=400):
    for _ in range(n): time.sleep(.02); yield X, Y
def same(): return all(torch.equal(before[k], v) for k, v in model.state_dict().items())
def live(): return [w.model_id for w in _instances.values() if getattr(w, 'about', {}).get('kind') == 'live'][-1]
'''


@pytest.fixture(scope='module')
def kernel(tmp_path_factory):
    home = tmp_path_factory.mktemp('ipython')
    manager, client = start_new_kernel(extra_arguments=[f'--IPythonApp.ipython_dir={home}'])
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client, code, wait=60):
    "Text that a cell prints or raises; with `wait=0`, do not wait for it"
    asked = client.execute(code)
    if not wait: return asked
    return finish(client, asked, wait)


def finish(client, asked, wait=60):
    "Text that the cell `asked` prints or raises"
    out, end = [], time.time() + wait
    while time.time() < end:
        try: m = client.get_iopub_msg(timeout=1)
        except Empty: continue
        if m['parent_header'].get('msg_id') != asked: continue
        kind, content = m['msg_type'], m['content']
        if kind == 'stream' and content['name'] == 'stdout': out.append(content['text'])
        if kind == 'error': out.append(content['ename'])
        if kind == 'status' and content['execution_state'] == 'idle': return ''.join(out).strip()
    raise TimeoutError(asked)


def send(client, comm, data):
    "What the page sends to a widget"
    client.shell_channel.send(client.session.msg('comm_msg', dict(comm_id=comm, data=data)))


def ask(client, comm, **question):
    "What the front end asks"
    send(client, comm, dict(method='update', state=dict(asked=question), buffer_paths=[]))


SOON = "for _ in range(300):\n    if not finder._task.running: break\n    time.sleep(.1)"      # the end of the sweep


def until(true):
    "Wait until `true()` holds"
    for _ in range(300):
        if true(): return
        time.sleep(.1)
    raise AssertionError('not within 30 s')


def test_stop_button_of_a_sweep_in_the_background(kernel):
    _, client = kernel
    run(client, SETUP)
    said = run(client, "finder.range_test(slow(), num_iter=400, background=True)\nprint(live(), finder._task.running)")
    comm, running = said.split()[-2:]
    assert running == 'True'        # the call did not wait for the sweep
    assert 'runs in the background' in run(client, "time.sleep(.3); print(finder)")
    ask(client, comm, n=1, width=700, do=['hello'])
    ask(client, comm, n=2, do=['stop'])
    said = run(client, f"{SOON}\n"
                       "print(finder._task.running, finder.curve.ended, len(finder.curve) < 350, same())")
    assert said.endswith('False stopped True True')


def test_a_cell_that_calls_the_model_waits(kernel):
    _, client = kernel
    run(client, SETUP)
    run(client, "finder.range_test(slow(30), num_iter=400, background=True)")
    said = run(client, "y = model(X)\n"
                       "right = torch.equal(y, nn.functional.linear(X, before['weight'], before['bias']))\n"
                       "print(finder._task.running, right, len(finder.curve))")
    assert said.endswith('False True 30') and 'a sweep of Linear runs in the background' in said
    assert run(client, "print('quiet')") == 'quiet'


@pytest.mark.parametrize('background', [False, True])
def test_the_kernel_is_interrupted(kernel, background, tmp_path):
    manager, client = kernel
    run(client, SETUP)
    mark = tmp_path/'mark'      # written with the twelfth batch
    run(client, f"def marked():\n"
                f"    for i, batch in enumerate(slow()):\n"
                f"        if i == 11: open({str(mark)!r}, 'w').close()\n"
                f"        yield batch")
    if background: run(client, "finder.range_test(marked(), num_iter=400, background=True)")
    sweep = "finder.range_test(marked(), num_iter=400)\nprint('went on')"
    asked = run(client, 'model(X)' if background else sweep, wait=0)
    until(mark.exists)
    manager.interrupt_kernel()
    assert finish(client, asked).endswith('KeyboardInterrupt' if background else 'went on')
    said = run(client, "print(finder.curve.ended, 5 < len(finder.curve) < 350, same())")
    assert said.endswith('stopped True True')


def test_a_slider_message_gives_what_analyse_gives(kernel):
    _, client = kernel
    run(client, SETUP)
    run(client, 'finder.range_test([(X, Y)], num_iter=200)\ne = finder.explore()')
    comm = run(client, "print(e.front.model_id)")
    for n, value in enumerate((20, 31, 42), 1): ask(client, comm, n=n, settings=dict(skip_start=value))
    same = 'e.suggestion == analyse(finder.curve, **e.settings).suggestion'
    until(lambda: run(client, "print(e.settings['skip_start'])") == '42')
    assert run(client, f"print({same})") == 'True'
