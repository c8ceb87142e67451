# Everything makes what it needs: a virtual environment in .venv, and for the tests what Debian has.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The oldest line of ipykernel that is still common, for the tests that run in both.
OLD := .venv-ipykernel6

.PHONY: demo test style types bench clean

demo: $(VENV)/.installed
	$(BIN)/python notebooks/demo.py $(if $(ONCE),--once)

test: $(VENV)/.tools $(OLD)/.installed
	tests/setup_debian.sh
	IPYKERNEL6_PYTHON=$(abspath $(OLD)/bin/python) $(BIN)/python -m pytest $(ARGS)

style: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tools
	$(BIN)/mypy

bench: $(VENV)/.tools
	benchmarks/setup.sh
	$(BIN)/pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks $(ARGS)

$(VENV)/.installed: pyproject.toml
	tests/make_venv.sh $(PYTHON) $(VENV)
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.tools: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test,dev]'
	touch $@

$(OLD)/.installed: pyproject.toml
	tests/make_venv.sh $(PYTHON) $(OLD)
	$(OLD)/bin/pip install --quiet --editable . 'ipykernel>=6.31,<7'
	touch $@

clean:
	rm -rf $(VENV) $(OLD) build dist *.egg-info
