# Needs GNU make and a Python >= 3.11 with pip. Everything else goes into .venv, at the versions of
# requirements.lock.
PYTHON ?= python3
PORT ?= 5000
WORKERS ?= 2
VENV := .venv
# A copy of what was installed: pip runs again only when the content of pyproject.toml or
# requirements.lock differs.
STAMP := $(VENV)/installed.txt
SOURCES := pyproject.toml requirements.lock
EXTRAS := workflow,tracking,search,dev

# Jobs start `python`, `snakemake` and `dvc`: theirs is the one of .venv.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help install demo test lint ui pull lock clean

help: ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: ## make .venv and install the tested versions (about 3 minutes and 7 GB, once)
	@if ! [ -x $(VENV)/bin/pip ]; then \
	  $(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("clipdr needs Python 3.11 or newer, $(PYTHON) is %d.%d: name a newer one, as in `make demo PYTHON=python3.11`" % v[:2])' \
	  && { $(PYTHON) -c 'import ensurepip' 2>/dev/null && $(PYTHON) -m venv $(VENV) \
	       || { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV)/bin/python install -q pip; }; } \
	  || exit 1; fi
	@cat $(SOURCES) | cmp -s - $(STAMP) \
	  || { $(VENV)/bin/python -m pip install --disable-pip-version-check -c requirements.lock -e '.[$(EXTRAS)]' && cat $(SOURCES) > $(STAMP); }

demo: install ## run the whole study of config.yaml, on synthetic images (about 10 minutes)
	snakemake --cores all --quiet reason
	@echo
	@echo "report    results/report.html"
	@echo "tables    results/tables/    (csv, md, tex, html, json)"
	@echo "figures   results/figures/   (png, pdf, svg)"
	@echo "scores    results/scores.csv, one line per run, domain and metric"
	@echo "runs      results/runs/{protocol}/{method}/{held_out}/{seed}/, and in a browser: make ui"

lint: install ## check style and types: ruff, pyright, snakefmt, snakemake --lint
	ruff check .
	ruff format --check .
	pyright
	snakefmt --check workflow
	snakemake --lint

test: lint ## lint, then all tests but the nightly ones and those for a GPU, with the coverage floor
	OMP_NUM_THREADS=1 pytest -n $(WORKERS) --dist loadfile --cov --cov-report=

ui: install ## open the runs in MLflow at http://127.0.0.1:5000 (another port: PORT=5001)
	@[ -f results/mlflow.db ] || { echo "there is no results/mlflow.db yet: run make demo first" >&2; exit 1; }
	mlflow ui --backend-store-uri sqlite:///results/mlflow.db --artifacts-destination results/mlartifacts \
	  --host 127.0.0.1 --port $(PORT) --workers 1

pull: install ## fetch and verify data and results that another clone pushed (docs/dvc.md)
	dvc pull
	python -m clipdr verify
	snakemake --touch --cores 1 --quiet all
	snakemake --cores all --quiet reason

lock: ## write the installed versions to requirements.lock (then run make test)
	@{ sed '/^[^#]/,$$d' requirements.lock; $(VENV)/bin/python -m pip freeze --exclude-editable | sed 's/+.*//'; } > $(VENV)/lock.txt
	mv $(VENV)/lock.txt requirements.lock

clean: ## delete what was made: results, and in data all but raw and splits
	rm -rf .snakemake .pytest_cache .ruff_cache .hypothesis .coverage
	find results -mindepth 1 ! -path results/README.md -delete
	rm -rf data/synthetic data/manifests data/store data/rejected data/receipts data/features data/smoke
	rm -rf data/patients data/pretrain data/multimodal
