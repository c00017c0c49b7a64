#!/usr/bin/env bash
# What `make test` runs: each step says its name and stops the run when it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }

step 'the modules are what the notebooks export'
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cp -r lrfinder_nb nbs "$work"
nbdev_export
diff -r -x __pycache__ lrfinder_nb "$work/lrfinder_nb"

step 'code keeps the rules of the house, and what is made from it is up to date'
ruff check -q
python docs/layers.py --check
python docs/stub.py --check
python docs/readme.py --check

step 'the notebooks are clean, and their outputs are those of their code'
nbdev_clean
diff -r -x .ipynb_checkpoints nbs "$work/nbs"
python docs/run_nbs.py --check

step 'the notebooks run'
OMP_NUM_THREADS=1 nbdev_test --n_workers 2      # one thread each: two that spin for two cores are slower than none

step 'the tests'
OMP_NUM_THREADS=1 pytest -rs -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/browser --ignore tests/test_kernel.py

step 'the tests in browsers and kernels, one at a time'
pytest -rs tests/browser tests/test_kernel.py

step 'the wheel installs and imports'
python -m build --wheel --outdir "$work/dist" >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log"; exit 1; }
pip install --disable-pip-version-check -q --no-deps --target "$work/site" "$work"/dist/*.whl
(cd "$work" && PYTHONPATH="$work/site" python - "$work" <<'PY'
import sys
import lrfinder_nb, lrfinder_nb.core.suggest
from pathlib import Path
home, tree = Path(lrfinder_nb.__file__).parent, Path(sys.argv[1])/'lrfinder_nb'
assert home.is_relative_to(sys.argv[1]), home
there = lambda folder: {str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file() and '__pycache__' not in p.parts}
assert there(home) == there(tree), there(home) ^ there(tree)      # every folder and the data are in the wheel
assert 'torch' not in sys.modules
assert len(lrfinder_nb.digits()[0].dataset) == 1438      # the data is in the wheel
for name in lrfinder_nb.__all__: getattr(lrfinder_nb, name)
print('lrfinder_nb', lrfinder_nb.__version__)
PY
)
printf '\nall good\n'
