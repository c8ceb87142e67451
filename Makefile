# Everything makes what it needs: a virtual environment in .venv, and for the tests what Debian has.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The oldest line of ipykernel that is still common, for the tests that run in both.
OLD := .venv-ipykernel6
AUTOBAHN := .venv-autobahn

.PHONY: demo test style types bench autobahn clean

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

# The Autobahn test suite against a WebSocket server, some eight minutes; CASES="7.* 9.1.1" runs some.
autobahn: $(VENV)/.installed $(AUTOBAHN)/.installed
	$(BIN)/python tests/autobahn/run.py $(AUTOBAHN)/bin/wstest

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

$(AUTOBAHN)/.installed: tests/autobahn/setup.sh | $(VENV)/.installed
	tests/autobahn/setup.sh $(BIN)/python $(AUTOBAHN)
	touch $@

clean:
	rm -rf $(VENV) $(OLD) build dist *.egg-info
