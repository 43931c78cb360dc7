# The environment is made once, in .venv, from the exact versions of constraints.txt; `make` alone lists what there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# What `make reproduce` reruns: TABLE 3, 4, 5, 6 (and 7) or several as "3 4", PROFILE smoke, cpu or paper, on EXECUTOR local,
# slurm or kubernetes.
TABLE    ?= 3 4 5 6
PROFILE  ?= smoke
DEVICE   ?= cpu
THREADS  ?= 1
EXECUTOR ?= local
WORKFLOW := .venv-workflow

# Threads that wait sleep: programs that wait actively take the cores from each other (book/execution.py).
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help book test quick lint lab records reproduce release-check clean

help:
	@echo "make book      run every chapter and build the HTML book"
	@echo "make test      lint, types and the test suite"
	@echo "make quick     lint, types and the tests that need neither the book nor a shipped network, in a minute or two"
	@echo "make lab       the chapters as notebooks, in JupyterLab"
	@echo "make records   rerun the chapters and rewrite the published numbers in results/measured"
	@echo "make reproduce rerun tables of the paper: TABLE=3 PROFILE=smoke (workflow/README.md)"
	@echo "make release-check build the wheel, install it in an empty environment, denoise an image with it"
	@echo "make clean     remove what was built (the environment $(VENV) stays)"

$(READY): constraints.txt pyproject.toml
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

book: $(READY)
	$(BIN)/python book/build.py

# One thread each for two workers: as fast as two threads for one, and results do not depend on the number of cores.
# Tests that share a fixture stay together (tests/conftest.py), and the book, which takes longest, comes first. nbval is
# for the test of the tagged cells, which starts it by itself: its import takes seconds.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder -p no:nbval

test: lint
	$(PYTEST)

quick: lint
	$(PYTEST) -m "not book and not shipped and not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

lab: $(READY)
	$(BIN)/python book/export.py
	INDEED_RECORDS=notebooks/records $(BIN)/jupyter lab --notebook-dir=notebooks

records: $(READY)
	$(BIN)/python book/records.py

# Snakemake pins other packages than the project: it has an environment of its own, and its jobs run in $(VENV).
$(WORKFLOW)/.ready: workflow/requirements.txt
	test -x $(WORKFLOW)/bin/python || "$(PYTHON)" -m venv $(WORKFLOW)
	$(WORKFLOW)/bin/python -m pip install --quiet --disable-pip-version-check -r workflow/requirements.txt
	touch $@

reproduce: $(READY) $(WORKFLOW)/.ready
	$(WORKFLOW)/bin/snakemake --snakefile workflow/Snakefile --workflow-profile workflow/profiles/$(EXECUTOR) \
		--config table="$(TABLE)" profile="$(PROFILE)" device="$(DEVICE)" threads="$(THREADS)" python="$(BIN)/python" $(FLAGS)

# The wheel alone, called from outside the repository: it brings its networks, and no package of the tests or the book.
RELEASE := $(CURDIR)/_build/release
release-check: export PYTHONPATH :=
release-check: SAMPLE = "$(RELEASE)/bin/python" -c "from indeed.data.samples import sample_path; print(sample_path('camera'))"
release-check:
	rm -rf "$(RELEASE)"
	"$(PYTHON)" -m venv "$(RELEASE)"
	"$(RELEASE)"/bin/python -m pip wheel --quiet --no-deps --wheel-dir "$(RELEASE)" .
	"$(RELEASE)"/bin/python -m pip install --quiet -c constraints.txt "$(RELEASE)"/*.whl
	! "$(RELEASE)"/bin/python -m pip list | grep -iE "^(jupyter|pytest)"
	cd / && "$(RELEASE)"/bin/indeed denoise "$$($(SAMPLE))" -o "$(RELEASE)/denoised.png"
	test -s "$(RELEASE)/denoised.png"

clean:
	rm -rf _build
