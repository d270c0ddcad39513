# Each target is one line of something well known; what they need is set up on first use, in .venv.
#   make reproduce [GRID=preview]   train a grid and draw its figures into runs/<grid>/
#   make record GRID=...            keep finished records: runs/<grid>/ -> results/<grid>/
#   make figures                    redraw figures/ from results/, without training
#   make test                       every check
#   make lab                        JupyterLab
PYTHON ?= python3

ifeq ($(CONDA_DEFAULT_ENV),persist)
  READY :=
else
  READY := .venv/ready
  export PATH := $(CURDIR)/.venv/bin:$(PATH)
endif

# GRID=paper needs a GPU; what a laptop can do is the preview
DEFAULT_GRID = $(shell python -c "import torch; print('paper' if torch.cuda.is_available() else 'preview')")

.PHONY: reproduce record figures test lab

reproduce: $(READY)
	snakemake --profile profiles/default --config grid=$(or $(GRID),$(DEFAULT_GRID))

record: $(READY)
	python -m persist.record runs/$(or $(GRID),$(DEFAULT_GRID)) results/$(or $(GRID),$(DEFAULT_GRID)) $(if $(REPLACE),--replace)

figures: $(READY)
	python -m persist.figures results figures

test: $(READY)
	python -m pytest

lab: $(READY)
	jupyter lab notebooks

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, not " + sys.version.split()[0] + "; name one with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check --constraint constraints.txt --editable '.[grid,test]'
	touch $@
