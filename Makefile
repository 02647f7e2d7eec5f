# Everything works alone on a machine with Python 3.11+ and pip: the first target that needs an environment makes it.
PYTHON ?= python3
VENV   := .venv
COLAB  := .venv-colab
PROGRAMS := .venv-programs
BIN    := $(VENV)/bin
CASES  := ../shared/cases
TORCH  := torch==2.13.0

.PHONY: help demo test test-walkthroughs test-programs test-install docs lint bench dist score clean

help:
	@echo "make demo    run a real broken training cell under %%gradcheck and write demo-report.html"
	@echo "make test    lint, types and every test (browser and Colab included) but the notebooks'"
	@echo "make test-walkthroughs   execute the notebooks, here and with Colab's versions, and check what they claim"
	@echo "make test-programs   run real programs (transformers, peft, pyro, lightning, ...) under the check, in an environment of their own"
	@echo "make docs    build the documentation site: docs/_build/index.html"
	@echo "make bench   measure what importing, recording and drawing cost, beside other tools"
	@echo "make dist    build the wheel and the source archive in dist/, and check them"
	@echo "make test-install   install as Binder does, from the wheel, and from the wheel into Colab's versions; run the tour in each"
	@echo "make score   score the tool on the case collection, where it lies beside this folder"
	@echo "make clean   remove what the targets above made"

demo: $(VENV)/.core
	$(BIN)/python examples/demo.py

test: $(VENV)/.test $(COLAB)/.ready lint
	bash scripts/system_packages.sh
	$(BIN)/python -m pytest -m "not walkthrough"

test-walkthroughs: $(VENV)/.test $(COLAB)/.ready
	$(BIN)/python -m pytest -m walkthrough tests/walkthroughs

test-programs: $(PROGRAMS)/.ready
	$(PROGRAMS)/bin/python -m pytest tests/programs

test-install: dist
	$(BIN)/python scripts/fresh_install.py

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W -n --keep-going -q docs docs/_build
	@echo "docs/_build/index.html"

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python benchmarks/import_time.py --check
	$(BIN)/python benchmarks/recorder.py --check
	$(BIN)/python benchmarks/graph.py --check
	$(BIN)/python benchmarks/monitor.py --check
	$(BIN)/python benchmarks/checkpoint.py --check

# pip fetches the build backend; nothing else is asked of the network, and nothing is uploaded.
dist: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

score: $(VENV)/.core
	@if [ -f $(CASES)/score.py ]; then $(BIN)/python $(CASES)/score.py $(CASES) --fast --show; \
	else echo "$(CASES)/score.py is not there: nothing to score"; fi

clean:
	rm -rf $(VENV) $(COLAB) $(PROGRAMS) .tools build docs/_build docs/causes docs/rules docs/walkthroughs.md docs/api/magics.md dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo-report.html score*.json
	find gradnb tests benchmarks examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: an environment is made anew only when what it was made from changed. torch goes first and pinned,
# so that pip cannot pick another one on the way of resolving the rest.
$(VENV)/.core: pyproject.toml
	bash scripts/make_venv.sh $(PYTHON) $(VENV)
	$(BIN)/python -m pip install -q $(TORCH)
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python -m pip install -q -e '.[docs]'
	touch $@

# gradnb goes in without its dependencies: the point of this environment is that they are Colab's.
$(COLAB)/.ready: tests/colab/requirements.txt pyproject.toml
	bash scripts/make_venv.sh $(PYTHON) $(COLAB)
	$(COLAB)/bin/python -m pip install -q $(TORCH)
	$(COLAB)/bin/python -m pip install -q -r tests/colab/requirements.txt
	$(COLAB)/bin/python -m pip install -q -e . --no-deps
	touch $@

$(PROGRAMS)/.ready: tests/programs/requirements.txt pyproject.toml
	bash scripts/make_venv.sh $(PYTHON) $(PROGRAMS)
	$(PROGRAMS)/bin/python -m pip install -q $(TORCH)
	$(PROGRAMS)/bin/python -m pip install -q $(TORCH) -r tests/programs/requirements.txt
	$(PROGRAMS)/bin/python -m pip install -q $(TORCH) -e .
	touch $@
