# Needs GNU make and a Python >= 3.11 with pip; everything else goes into .venv, at the versions pinned in pyproject.toml.
PYTHON ?= python3
PORT ?= 5000
WORKERS ?= 2
VENV := .venv
# A copy of the pyproject.toml that was installed: pip runs again only when the file's content differs.
STAMP := $(VENV)/installed.toml

# Jobs start `python`, `snakemake` and `dvc`: theirs is the one of .venv.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help install demo test lint ui pull clean

help: ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: ## make .venv and install the pinned versions (about 3 minutes and 7 GB, once)
	@if ! [ -x $(VENV)/bin/pip ]; then \
	  $(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("clipdr needs Python 3.11 or newer, $(PYTHON) is %d.%d: name a newer one, as in `make demo PYTHON=python3.11`" % v[:2])' \
	  && { $(PYTHON) -c 'import ensurepip' 2>/dev/null && $(PYTHON) -m venv $(VENV) \
	       || { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV)/bin/python install -q pip; }; } \
	  || exit 1; fi
	@cmp -s pyproject.toml $(STAMP) \
	  || { $(VENV)/bin/python -m pip install --disable-pip-version-check -e '.[dev]' && cp pyproject.toml $(STAMP); }

demo: install ## run the whole study of config.yaml, on synthetic photographs (about 10 minutes)
	snakemake --cores all --quiet reason
	@echo
	@echo "tables    results/tables/    (csv, md, tex)"
	@echo "figures   results/figures/   (png, pdf)"
	@echo "scores    results/scores.csv, one line per run, domain and metric"
	@echo "runs      results/runs/{protocol}/{method}/{held_out}/{seed}/, and in a browser: make ui"

lint: install ## check style: ruff, snakefmt, snakemake --lint
	ruff check .
	ruff format --check .
	snakefmt --check workflow
	snakemake --lint

test: lint ## lint, then all tests but the nightly ones and those for a GPU
	OMP_NUM_THREADS=1 pytest -n $(WORKERS) --dist loadfile

ui: install ## open the runs in MLflow at http://127.0.0.1:5000 (another port: PORT=5001)
	@[ -f results/mlflow.db ] || { echo "there is no results/mlflow.db yet: run make demo first" >&2; exit 1; }
	mlflow ui --backend-store-uri sqlite:///results/mlflow.db --artifacts-destination results/mlartifacts \
	  --host 127.0.0.1 --port $(PORT) --workers 1

pull: install ## fetch data and results that another clone pushed, verify them, and leave nothing to run (docs/dvc.md)
	dvc pull
	python -m clipdr verify
	snakemake --touch --cores 1 --quiet all
	snakemake --cores all --quiet reason

clean: ## delete what was made: results, and in data all but raw and splits
	rm -rf results .snakemake .pytest_cache .ruff_cache .hypothesis
	rm -rf data/synthetic data/manifests data/store data/rejected data/receipts data/features data/smoke
