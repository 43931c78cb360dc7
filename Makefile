# The environment is made once, in .venv, from the exact versions of constraints.txt; `make` alone lists what there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help book test lab records clean

help:
	@echo "make book      run every chapter and build the HTML book"
	@echo "make test      lint, types and the test suite"
	@echo "make lab       the chapters as notebooks, in JupyterLab"
	@echo "make records   rerun the chapters and rewrite the published numbers in results/measured"
	@echo "make clean     remove what was built (the environment $(VENV) stays)"

$(READY): constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

book: $(READY)
	$(BIN)/python book/build.py

# One thread each for two workers: as fast as two threads for one, and results do not depend on the number of cores.
test: export OMP_NUM_THREADS := 1
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

lab: $(READY)
	$(BIN)/python book/chapters.py notebooks
	INDEED_RECORDS=notebooks/records $(BIN)/jupyter lab --notebook-dir=notebooks

records: $(READY)
	$(BIN)/python book/chapters.py records

clean:
	rm -rf _build
