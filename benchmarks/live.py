"""What does the live display take from a sweep? Measured inside a real notebook kernel.

    python benchmarks/live.py               writes benchmarks/results/live.json and prints it
"""
import json
import statistics
from pathlib import Path

from jupyter_client.manager import start_new_kernel

SETUP = '''
import json, time, torch
from torch import nn
from lrfinder_nb import LRFinder, SmallCNN, digits, set_seed
from lrfinder_nb.show.live import Live
torch.set_num_threads(1)
spent = [0.]

def timed(cls, name):
    "Add the time of a method to `spent`"
    method = getattr(cls, name)
    def wrapped(*args, **kw):
        start = time.thread_time()
        try: return method(*args, **kw)
        finally: spent[0] += time.thread_time() - start
    setattr(cls, name, wrapped)

for name in ('__init__', 'point', 'finish', '_ipython_display_'): timed(Live, name)
def sweep(progress):
    "Seconds that one long sweep takes, and the share of its processor time that the display takes"
    set_seed(0)
    spent[0] = 0.
    model = SmallCNN()
    finder = LRFinder(model, torch.optim.AdamW(model.parameters()), nn.CrossEntropyLoss())
    start, worked = time.perf_counter(), time.thread_time()
    long = dict(num_iter=1200, diverge_threshold=float('inf'), end_lr=1e-2)
    finder.range_test(digits()[0], progress=progress, **long)
    return time.perf_counter() - start, spent[0]/(time.thread_time() - worked)
'''


def run(client, code):
    "What a cell prints"
    out = []
    def heard(message):
        content = message['content']
        if message['msg_type'] in ('stream', 'error'): out.append(content.get('text', content.get('evalue', '')))
    client.execute_interactive(code, timeout=600, output_hook=heard)
    return ''.join(out)


def main(rounds=3):
    manager, client = start_new_kernel()
    try:
        run(client, SETUP)
        both = 'print(json.dumps([*sweep(True), sweep(False)[0]]))'
        rows = [json.loads(run(client, both).strip().splitlines()[-1]) for _ in range(rounds)]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    shares = [r[1] for r in rows]
    body = dict(sweep_seconds=[round(r[0], 2) for r in rows], share_of_display=[round(x, 4) for x in shares],
                median_share=round(statistics.median(shares), 4), target=.02,
                ratio_to_no_display=[round(r[0]/r[2], 3) for r in rows])
    (Path(__file__).parent/'results/live.json').write_text(json.dumps(body, indent=1) + '\n')
    print(json.dumps(body, indent=1))


if __name__ == '__main__': main()
