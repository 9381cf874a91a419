# VitalCheck: every task of this repository as one command. `make` alone lists them.
#
# Fresh machine: Python 3.11 or newer with venv, and make. Everything else is installed into .venv from the pinned constraints.txt;
# a stamp in .venv remembers it until pyproject.toml or constraints.txt changes.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CONFIG ?= vitalcheck.toml
DATA ?= data
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt

.PHONY: help demo test test-train serve train bench bench-pipeline lint clean debian constraints

help:  ## this list
	@echo "VitalCheck: an open DICOM AI node. Research use, not a medical device."; echo
	@awk -F ':.*## +' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo "Start with: make demo"

demo: .venv/.base  ## push a bundled head MR study through VitalCheck into a stand-in PACS and print the report (no torch)
	@$(BIN)/python -m scripts.demo

test: debian .venv/.test lint  ## install what tests need, lint, run every test that needs no torch
	$(BIN)/python -m pytest -m "not train"

test-train: .venv/.train  ## install torch, test the model line
	$(BIN)/python -m pytest -m train

serve: .venv/.base $(filter vitalcheck.toml,$(CONFIG))  ## run the node on this machine, configured by vitalcheck.toml (or CONFIG=FILE)
	$(BIN)/vitalcheck serve --config $(CONFIG)

vitalcheck.toml:
	@cp deploy/vitalcheck.toml $@
	@echo "Wrote $@ from deploy/vitalcheck.toml: name there who may send ([[listener.peers]]) and where reports go ([[destinations]])."

train: .venv/.train  ## train, quantise, gate and export the network: make train DATA=/path/to/brain_mri
	@test -d "$(DATA)" || { echo "train: no folder $(DATA); name the data set: make train DATA=/path/to/brain_mri" >&2; exit 2; }
	$(BIN)/python -m scripts.train_image_model --data $(DATA) $(OPTIONS)

bench: .venv/.base  ## int8 against fp32 on this CPU, and the pipeline stage by stage
	@$(BIN)/python -m scripts.benchmark

bench-pipeline: .venv/.base  ## ms per slice of decode, prepare, infer and report for 24, 160 and 600 slices, and the share of each
	@$(BIN)/python -m scripts.bench_pipeline

lint: .venv/.test  ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove what was built: .venv, caches, out/ (never var/, where received studies live)
	rm -rf .venv out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

debian:
	@scripts/debian_packages.sh

constraints: .venv/.test .venv/.train
	@{ sed '/^[^#]/d' constraints.txt; $(BIN)/python -m pip freeze --all --exclude-editable | grep -viE '^pip==' | sed -E 's/\+[^ ;]+//' | LC_ALL=C sort -f; } > constraints.new
	@mv constraints.new constraints.txt; git --no-pager diff --stat constraints.txt

.venv/bin/python:
	@scripts/make_venv.sh .venv

.venv/.base: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing VitalCheck into .venv ..."
	@$(PIP) --editable .
	@touch $@

.venv/.test: .venv/.base
	@echo "Installing what the tests need into .venv ..."
	@$(PIP) --editable '.[test]'
	@touch $@

.venv/.train: .venv/.test
	@echo "Installing torch and what training needs into .venv (a CPU wheel where the platform has one, else several GB) ..."
	@$(PIP) --editable '.[train]'
	@touch $@
