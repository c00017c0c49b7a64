#!/usr/bin/env bash
# Install the libraries whose objects finder_for takes beside the environment $1, which lends them torch, and run their tests;
# with `install` as $2, only install them.
set -euo pipefail
cd "$(dirname "$0")/../.."
lender=${1:-.venv}
packages() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

environment() {     # name, options of pip, file of requirements
    local home=$lender-$1
    if [ "$home/stamp" -nt "$3" ]; then return; fi
    "$lender/bin/python" -m venv "$home"
    packages "$lender" > "$(packages "$home")/lender.pth"
    "$home/bin/python" -m pip install --disable-pip-version-check -q $2 -r "$3"
    touch "$home/stamp"
}

environment neighbours '-c constraints.txt' tests/neighbours/requirements.txt
environment fastai --no-deps tests/neighbours/requirements-fastai.txt
if [ "${2:-}" = install ]; then exit; fi
export PYTHONPATH=$PWD OMP_NUM_THREADS=1 NEIGHBOURS_TABLE=$PWD/docs/data/neighbours.json
"$lender-neighbours/bin/python" -m pytest tests/neighbours --ignore tests/neighbours/test_fastai.py
"$lender-fastai/bin/python" -W ignore -m pytest tests/neighbours/test_fastai.py tests/neighbours/test_recipes.py
