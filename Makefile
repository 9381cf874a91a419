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

.PHONY: help demo viewer screenshots test test-train serve train bench bench-pipeline bench-receive prove-kills model-report bench-model pitfalls leave-out ablation adjustment study-rule false-cells phantoms lint clean debian constraints

help:  ## this list
	@echo "VitalCheck: an open DICOM AI node. Research use, not a medical device."; echo
	@awk -F ':.*## +' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo "Start with: make demo"

demo: .venv/.base  ## push a bundled head MR study through VitalCheck into a stand-in PACS and print the report (no torch)
	@$(BIN)/python -m scripts.demo

viewer: .venv/.base  ## Orthanc, OHIF and VitalCheck on this machine: send the demo study, read the reports in a browser (no Docker)
	@$(BIN)/python -m scripts.viewer

screenshots: .venv/.test  ## take the screenshots of docs/viewers.md again, by headless Chromium
	@$(BIN)/python -m scripts.viewer.pictures docs/viewers

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
	$(BIN)/python -m scripts.train_image_model --data "$(DATA)" $(OPTIONS)

bench: .venv/.base  ## int8 against fp32 on this CPU, and the pipeline stage by stage
	@$(BIN)/python -m scripts.benchmark

bench-pipeline: .venv/.base  ## ms per slice of decode, prepare, infer and report for 24, 160 and 600 slices, and the share of each
	@$(BIN)/python -m scripts.bench_pipeline

bench-receive: .venv/.base  ## receiving beside storescp, Orthanc and pynetdicom: docs/benchmarks/receive.md (OPTIONS=--quick; Debian: dcmtk, orthanc)
	@$(BIN)/python -m scripts.bench_receive $(OPTIONS)

prove-kills: .venv/.base  ## 20 SIGKILLs of the receiver while 4 senders push: nothing acknowledged is lost (1 to 2 minutes)
	@$(BIN)/python -m scripts.prove_kills

model-report: .venv/.train  ## docs/model-report.md with its plots and the model's card, again from the model's folder and docs/measured
	@$(BIN)/python -m scripts.model_report $(OPTIONS)

bench-model: .venv/.bench  ## size and speed of the network against ResNet18, eager PyTorch and OpenVINO, in one table (docs/measured/speed.csv)
	$(BIN)/python -m scripts.bench_model $(OPTIONS)

pitfalls: .venv/.train  ## ways to make int8, and what the batch changes, measured: make pitfalls DATA=/path/to/brain_mri (docs/measured)
	@test -d "$(DATA)" || { echo "pitfalls: no folder $(DATA); name the data set: make pitfalls DATA=/path/to/brain_mri" >&2; exit 2; }
	$(BIN)/python -m scripts.pitfalls --data "$(DATA)" $(OPTIONS)

leave-out: .venv/.train  ## train without each part in turn and read it: make leave-out DATA=/path/to/brain_mri (docs/measured; hours)
	@test -d "$(DATA)" || { echo "leave-out: no folder $(DATA); name the data set: make leave-out DATA=/path/to/brain_mri" >&2; exit 2; }
	$(BIN)/python -m scripts.leave_out --data "$(DATA)" $(OPTIONS)

ablation: .venv/.train  ## what each ingredient of the training is worth: make ablation DATA=/path/to/brain_mri (docs/measured; an hour and a half)
	@test -d "$(DATA)" || { echo "ablation: no folder $(DATA); name the data set: make ablation DATA=/path/to/brain_mri" >&2; exit 2; }
	$(BIN)/python -m scripts.ablation --data "$(DATA)" $(OPTIONS)

adjustment: .venv/.train  ## what is added to each label's evidence, and candidates, on the answers of the leave-out runs
	@$(BIN)/python -m scripts.adjustment $(OPTIONS)

study-rule: .venv/.train  ## what the study rule calls every study of the leave-out runs (docs/measured)
	$(BIN)/python -m scripts.study_rule $(OPTIONS)

false-cells: .venv/.train  ## where in the head the leave-out runs take something healthy for a tumour (docs/measured)
	$(BIN)/python -m scripts.false_cells $(OPTIONS)

phantoms: .venv/.train  ## draw the contact sheet of phantom studies again: docs/phantoms.png
	@$(BIN)/python -m scripts.phantom_sheet docs/phantoms.png

lint: .venv/.test  ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove what was built: .venv, caches, out/ (never var/, where received studies live)
	rm -rf .venv out .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
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

.venv/.bench: .venv/.train
	@echo "Installing OpenVINO into .venv, to compare with ..."
	@$(PIP) --editable '.[bench]'
	@touch $@
