"""The rows of a measurement, as they are printed and written, and the machine that made them"""
import platform
from pathlib import Path

import numpy as np


def processor():
    "Model name of the CPU"
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return (names + [platform.processor() or platform.machine()])[0]


class Report:
    "Rows of the table, printed as they come"
    def __init__(self): self.rows = []

    def row(self, what, who, values, unit, target=None, digits=2):
        low, mid, high = (round(float(q), digits) for q in np.quantile(values, [.25, .5, .75]))
        self.rows.append(dict(measure=what, of=who, median=mid, quartiles=[low, high], unit=unit, target=target))
        spread = f'{low} to {high}' if np.size(values) > 1 else ''
        limit = '' if target is None else f'≤ {target}'
        print(f'| {what} | {who} | {mid} {unit} | {spread} | {limit} |', flush=True)
