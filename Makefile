# GNU make, POSIX sh, git and Python 3.11 or newer (with venv) are all that is needed.
# SDEPPL_BACKEND, if set in the environment, reaches every command unchanged.

PYTHON      ?= python3
CONSTRAINTS ?= constraints/cpu.txt

VENV   := .venv
BIN    := $(VENV)/bin
EXTRAS := test,tutorials,benchmarks
# One stamp per constraints file, so that changing from CPU to GPU installs again.
STAMP  := $(VENV)/.installed-$(basename $(notdir $(CONSTRAINTS)))

# Figures go to files: no screen is needed.
export MPLBACKEND ?= Agg

CHECK_PYTHON = import sys; print("ok" if sys.version_info >= (3, 11) else "it is " + sys.version.split()[0])

.DELETE_ON_ERROR:
.PHONY: help demo tutorials test test-slow test-all test-gpu fuzz lint bench docs clean distclean

help: ## list the targets (the default)
	@echo 'usage: make TARGET [PYTHON=python3.12] [CONSTRAINTS=constraints/gpu.txt]'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  %-10s %s\n' "$$name" "$$text"; done

demo: $(STAMP) ## train, sample and compare with the exact answer: tutorials/01_nile.py, a minute or less
	$(BIN)/python tutorials/01_nile.py

tutorials: $(STAMP) ## run every tutorial in full; pictures go to tutorials/output
	@set -e; for script in tutorials/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

test: $(STAMP) ## run the tests but for the slow ones, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-slow: $(STAMP) ## run those that train networks, run long chains or try many models; CI does, too
	$(BIN)/python -m pytest -n 2 --dist load -m slow

test-all: $(STAMP) ## run all of them, each case on every backend, where the others have it on NumPy and one more
	$(BIN)/python -m pytest -n 2 --dist loadfile --backends all

test-gpu: $(STAMP) ## with a CUDA device: the tests that run on every backend, on torch:cuda and cupy
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e '.[cupy]'
	$(BIN)/python -m pytest -rs --backends all -k '(cuda or cupy) and not simulated' tests/backend tests/sde tests/solvers tests/denoisers \
		tests/likelihood tests/posterior

fuzz: $(STAMP) ## random models, damaged files, killed processes, wrong arguments: every script of tests/fuzz, whole
	@failed=; for script in $$(grep -l __main__ tests/fuzz/*.py); do echo "== $$script"; \
		$(BIN)/python "$$script" || failed="$$failed $$script"; done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

lint: $(STAMP) ## ruff, formatting, mypy, the layers of the imports and the use of arrays
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/lint/array_lint.py

bench: $(STAMP) ## run benchmarks/nile.py and benchmarks/solvers.py, with the libraries they compare with
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e '.[peers]'
	$(BIN)/python benchmarks/nile.py
	$(BIN)/python benchmarks/solvers.py

docs: $(STAMP) ## build the documentation into site/; warnings and dead links are errors
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'open site/index.html'

clean: ## remove caches and build products, keep .venv
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name $(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)

# Runs again only when what is to be installed has changed. The check is made before any command,
# so that a Python that is too old gives one line and leaves nothing behind.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(eval found := $(shell $(PYTHON) -c '$(CHECK_PYTHON)' 2>/dev/null || echo 'it does not run'))
	$(if $(filter ok,$(found)),,$(error sdeppl needs Python 3.11 or newer, got PYTHON=$(PYTHON): $(found). Choose another: make PYTHON=python3.12))
	rm -f $(VENV)/.installed-*
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
	touch $@
