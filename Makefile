# The commands of the README; what they need is set up on first use, in .venv.
#   make reproduce [GRID=...]       train a grid (default: preview, with a GPU paper) and draw its figures into runs/<grid>/ (PROFILE=slurm: on a cluster; ARGS=...: for Snakemake)
#   make record [GRID=...]          keep what was trained: runs/<grid>/ -> results/<grid>/ (FROM=...: another folder than runs; REPLACE=1)
#   make publish                    redraw figures, tables, verdicts, docs, README and report from results/, without training or torch
#   make report                     README.md and docs/ as one page to read: report/index.html
#   make test                       every check but the slow ones; make test-slow: those
#   make test-faults                a grid killed at ten random moments: nothing may be lost (KILLS=..., SEED=...)
#   make test-browser               the notebooks and the page in a real browser (Debian's chromium)
#   make test-slurm                 the cluster page on a real Slurm (tests/slurm/start.sh starts one)
#   make lint                       formatting, style and types
#   make bench                      measure the speed side by side with others', on an otherwise idle machine (REPLACE=1: over an older result)
#   make notebooks                  run the committed notebooks anew and normalise them
#   make lab                        JupyterLab
PYTHON ?= python3

ifeq ($(CONDA_DEFAULT_ENV),persist)
  READY :=
  READABLE :=
else ifneq ($(wildcard .venv/ready),)
  READY := .venv/ready
  READABLE := .venv/ready
  export PATH := $(CURDIR)/.venv/bin:$(PATH)
else
  READY := .venv/ready
  READABLE := .venv-read/ready
  export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.venv-read/bin:$(PATH)
endif

# What an execution leaves in a notebook that differs from machine to machine
MACHINE_KEYS = metadata.papermill cell.metadata.papermill cell.metadata.execution \
  $(addprefix metadata.language_info.,codemirror_mode file_extension mimetype nbconvert_exporter pygments_lexer version)
PYTEST = OMP_NUM_THREADS=1 PERSIST_BATCH=1 python -m pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

.PHONY: reproduce record publish report test test-slow test-faults test-slurm test-browser lint bench notebooks normalise lab

reproduce: $(READY)
	@exec python -m persist grid $(GRID) $(if $(PROFILE),--profile $(PROFILE)) $(if $(ARGS),-- $(ARGS))

record: $(READABLE)
	python -m persist record $(GRID) $(if $(FROM),--from $(FROM)) $(if $(REPLACE),--replace)

publish: $(READABLE)
	python -m persist publish

report: $(READABLE)
	python -m persist report

# several processes with one thread each: faster than one with several, and threads of two processes get in each other's way
test: $(READY)
	$(PYTEST) -m "not slow"

test-slow: $(READY)
	$(PYTEST) -m slow

test-faults: $(READY)
	python tests/workflow/faults.py --kills $(or $(KILLS),10) $(if $(SEED),--seed $(SEED))

test-slurm: $(READY)
	python -m pytest tests/slurm/check_slurm.py

test-browser: $(READY)
	python -m pytest tests/browser

lint: $(READY)
	ruff format --check .
	ruff check .
	snakefmt --check Snakefile
	pyright

bench: $(READY)
	python benchmarks/bench.py $(if $(REPLACE),--replace)

# cell.ipynb in an empty folder, so that it trains and does not show an older run of yours
notebooks: $(READY)
	PERSIST_BATCH=1 papermill notebooks/cell.ipynb notebooks/cell.ipynb --cwd $$(mktemp -d) --log-level ERROR
	for notebook in $(filter-out notebooks/cell.ipynb,$(wildcard notebooks/*.ipynb)); do PERSIST_BATCH=1 papermill $$notebook $$notebook --log-level ERROR || exit 1; done
	$(MAKE) normalise

normalise: $(READY)
	nbstripout --keep-output --keep-count --keep-id --extra-keys '$(MACHINE_KEYS)' notebooks/*.ipynb

lab: $(READY)
	jupyter lab notebooks

.venv/ready .venv-read/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, not " + sys.version.split()[0] + "; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --constraint constraints.txt --editable '.[$(if $(findstring read,$(@D)),read,test)]'
	touch $@
