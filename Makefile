.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
HOMES := JUPYTER_CONFIG_DIR=$(CURDIR)/.jupyter-home/config JUPYTER_DATA_DIR=$(CURDIR)/.jupyter-home/data IPYTHONDIR=$(CURDIR)/.jupyter-home/ipython
RUN := $(HOMES) PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: help demo demo-project lab nbs docs docs-serve readme test test-gpu soak test-neighbours release-check bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "lrfinder_nb needs Python 3.11 to 3.13, got %d.%d; pass make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(BIN)/python settings.ini setup.py constraints.txt
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@mkdir -p .jupyter-home/config .jupyter-home/data .jupyter-home/ipython
	@touch $@

demo: $(VENV)/run.stamp  ## install, sweep a small CNN on handwritten digits, show the rate and train with it
	$(BIN)/python -m lrfinder_nb.project.demo

demo-project: $(VENV)/run.stamp  ## from a folder of images to a trained model: the four commands on the digits
	$(BIN)/python -m lrfinder_nb.project.shell

lab: $(VENV)/dev.stamp  ## open the quickstart notebook in JupyterLab
	$(RUN) jupyter lab nbs/tutorials/quickstart.ipynb

nbs: $(VENV)/dev.stamp  ## export the notebooks, run them all, store outputs and write README.md
	$(RUN) nbdev_export
	$(RUN) python docs/run_nbs.py
	$(RUN) nbdev_clean
	$(RUN) python docs/readme.py
	$(RUN) python docs/layers.py
	$(RUN) python docs/stub.py

docs: $(VENV)/dev.stamp  ## build the site from the notebooks, with warnings as errors
	@mkdir -p _docs/src
	$(RUN) python -m sphinx -q -a -E -W --keep-going -c docs -d _docs/cache _docs/src _docs/html
	@echo "built _docs/html/index.html"

docs-serve: docs  ## show the site on localhost
	$(RUN) python -m http.server --bind 127.0.0.1 --directory _docs/html 8000

readme: $(VENV)/dev.stamp  ## write README.md from nbs/index.ipynb
	$(RUN) python docs/readme.py

test: $(VENV)/dev.stamp  ## everything that must hold: export, notebooks, tests, README, wheel
	$(RUN) docs/check.sh

release-check: $(VENV)/dev.stamp  ## build the package and try it in a fresh environment, as a user gets it
	$(RUN) python docs/release.py

test-neighbours: $(VENV)/dev.stamp  ## install transformers, Lightning, fastai and others beside, and try each
	tests/neighbours/run.sh $(VENV)

test-gpu: $(VENV)/dev.stamp  ## every promise about CUDA, on one GPU and without a network; skipped where there is none
	GPU_RESULTS=benchmarks/results/gpu.json $(RUN) pytest -rs tests/gpu

soak: $(VENV)/dev.stamp  ## a thousand presses of Ctrl-C and a hundred kills at random times, with nothing lost
	$(RUN) python tests/soak.py 1000 100

bench: $(VENV)/dev.stamp  ## measure overhead, beside other finders (installs them), sliders, live display and the arena
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/overhead.py
	$(RUN) python benchmarks/explorer.py --browser
	$(RUN) python benchmarks/live.py
	$(BIN)/python benchmarks/arena/truth.py
	$(BIN)/python benchmarks/arena/run.py --quick
	$(BIN)/python benchmarks/arena/report.py --keep

clean:  ## remove what was built and installed here
	rm -rf $(VENV) $(VENV)-neighbours $(VENV)-fastai .jupyter-home _docs _shots build dist *.egg-info demo_out demo_project
