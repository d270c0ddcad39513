# The commands of the README; what they need is set up on first use, in .venv.
#   make reproduce [GRID=preview]   train a grid and draw its figures into runs/<grid>/ (PROFILE=slurm: on a cluster; ARGS=...: for Snakemake)
#   make record GRID=...            keep finished records: runs/<grid>/ -> results/<grid>/
#   make figures                    redraw figures/ from results/, without training
#   make claims                     judge the paper's claims by results/, without training
#   make report                     one page to read from results/ and figures/: report/index.html
#   make test                       every check, but for three that take longer or need more:
#   make test-faults                grids under faults; one killed at ten random moments: nothing may be lost (KILLS=..., SEED=...)
#   make test-browser               the notebooks and the page in a real browser (Debian's chromium)
#   make test-slurm                 the README's cluster section on a real Slurm (tests/slurm/start.sh starts one)
#   make bench                      measure the speed side by side with others', on an otherwise idle machine (REPLACE=1: over an older result)
#   make notebooks                  run the committed notebooks anew and normalise them
#   make lab                        JupyterLab
PYTHON ?= python3

ifeq ($(CONDA_DEFAULT_ENV),persist)
  READY :=
else
  READY := .venv/ready
  export PATH := $(CURDIR)/.venv/bin:$(PATH)
endif

# GRID=paper needs a GPU that has TF32; what a laptop can do is the preview
OR_DEFAULT = $(or $(GRID),$$(python -c "import torch; print('paper' if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0) else 'preview')"))
# A lock that the system releases, whatever happens to its holder; Snakemake's own outlives a kill. A second call waits.
FLOCK := $(shell command -v flock)

# What an execution leaves in a notebook that differs from machine to machine
MACHINE_KEYS = metadata.papermill cell.metadata.papermill cell.metadata.execution \
  $(addprefix metadata.language_info.,codemirror_mode file_extension mimetype nbconvert_exporter pygments_lexer version)

.PHONY: reproduce record figures claims report bench test test-faults test-slurm test-browser notebooks lab

# --here: on a cluster other machines train, with GPUs that this one may lack
reproduce: $(READY)
	@mkdir -p runs && touch runs/.lock
	$(if $(FLOCK),@flock --nonblock runs/.lock true || echo "another make reproduce is running here: waiting for it")
	grid="$(OR_DEFAULT)" && python -m persist.notebook.progress $(if $(filter default,$(or $(PROFILE),default)),--here) -- "$$grid" && \
	exec $(if $(FLOCK),flock --no-fork runs/.lock) snakemake --workflow-profile profiles/$(or $(PROFILE),default) \
	  $(if $(FLOCK),--nolock) --config grid=$$grid $(ARGS)

record: $(READY)
	grid=$(OR_DEFAULT) && python -m persist.record grids/$$grid.yaml runs/$$grid results/$$grid $(if $(REPLACE),--replace)

figures: $(READY)
	python -m persist.draw results grids figures
	python -m persist.readme results grids README.md
	python -m persist.evidence.speed benchmarks/results figures/bench README.md

claims: $(READY)
	python -m persist.evidence.claims results grids README.md

report: $(READY)
	python -m persist.evidence.report . report

bench: $(READY)
	python benchmarks/bench.py $(if $(REPLACE),--replace)

# several processes with one thread each: faster than one with several, and threads of two processes get in each other's way
test: $(READY)
	OMP_NUM_THREADS=1 python -m pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test-faults: $(READY)
	OMP_NUM_THREADS=1 python -m pytest -n auto --maxprocesses 2 tests/check_grid_faults.py
	python tests/faults.py --kills $(or $(KILLS),10) $(if $(SEED),--seed $(SEED))

test-slurm: $(READY)
	python -m pytest tests/slurm/check_slurm.py

test-browser: $(READY)
	python -m pytest tests/browser

# cell.ipynb in an empty folder, so that it trains and does not show an older run of yours
notebooks: $(READY)
	papermill notebooks/cell.ipynb notebooks/cell.ipynb --cwd $$(mktemp -d) --log-level ERROR
	for notebook in $(filter-out notebooks/cell.ipynb,$(wildcard notebooks/*.ipynb)); do papermill $$notebook $$notebook --log-level ERROR || exit 1; done
	nbstripout --keep-output --keep-count --keep-id --extra-keys '$(MACHINE_KEYS)' notebooks/*.ipynb

lab: $(READY)
	jupyter lab notebooks

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, not " + sys.version.split()[0] + "; name one with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check --constraint constraints.txt --editable '.[grid,test,bench]'
	touch $@
