# Everything makes what it needs: a virtual environment in .venv, others beside it for the tests, and
# what Debian has.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# For the tests that run in both: the oldest line of ipykernel that is still common, with IPython 8.
OLD := .venv-ipykernel6
# Where Python's prompt is another.
PYTHON313 ?= $(shell tests/find_python.sh 3.13)
NEW := .venv-python313
# A Jupyter server of its own, with either line of its proxy.
LAB44 := .venv-lab44
LAB45 := .venv-lab45
AUTOBAHN := .venv-autobahn
OTHERS := $(OLD) $(NEW) $(LAB44) $(LAB45)
PYTHONS = IPYKERNEL6_PYTHON=$(abspath $(OLD)/bin/python) \
	IPYTHON8_PYTHON=$(abspath $(OLD)/bin/python) \
	PYTHON313_PYTHON=$(if $(PYTHON313),$(abspath $(NEW)/bin/python)) \
	LAB44_PYTHON=$(abspath $(LAB44)/bin/python) LAB45_PYTHON=$(abspath $(LAB45)/bin/python)

.PHONY: demo test test-process matrix fuzz soak slowhttptest style types bench autobahn clean

demo: $(VENV)/.installed
	$(BIN)/python notebooks/demo.py $(if $(ONCE),--once)

test: $(VENV)/.tools $(addsuffix /.installed,$(OTHERS))
	tests/setup_debian.sh
	$(PYTHONS) $(BIN)/python -m pytest $(ARGS)

# The behaviour of servers once more, with the network side in a process of its own.
test-process: $(VENV)/.tools $(addsuffix /.installed,$(OTHERS))
	$(PYTHONS) HTTPUV_TEST_ISOLATION=process $(BIN)/python -m pytest -m "not browser" $(ARGS)

# The suite on every supported Python, with the oldest and newest of what it stands on.
matrix: $(VENV)/.installed
	$(BIN)/python tests/matrix.py $(ROWS)

# Random input, kept within its invariants; and what Tornado and uvicorn answer to the same bytes.
fuzz: $(VENV)/.tools
	$(BIN)/python tests/fuzz/run.py $(or $(SECONDS),60) $(TARGETS)
	$(BIN)/python tests/fuzz/differential.py

# Everything at once for ten minutes; SOAK_ISOLATION=process, SECONDS=180.
soak: $(VENV)/.tools
	$(BIN)/python tests/soak/run.py $(or $(SECONDS),600)

# Slow headers, slow bodies, slow readers; how long others wait meanwhile.
slowhttptest: $(VENV)/.installed
	command -v slowhttptest >/dev/null || apt-get install -y -qq slowhttptest
	$(BIN)/python tests/hostile/slow.py $(ARGS)

style: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tools
	$(BIN)/mypy

bench: $(VENV)/.tools
	benchmarks/setup.sh
	$(BIN)/pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks $(ARGS)

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
	$(OLD)/bin/pip install --quiet --editable . 'ipykernel>=6.31,<7' 'ipython<9' 'PySide6-Essentials>=6.6' 'matplotlib>=3.8'
	touch $@

# Without that Python its tests skip, but not in CI.
$(NEW)/.installed: pyproject.toml
	mkdir -p $(NEW)
	[ -z "$(PYTHON313)" ] || tests/make_venv.sh "$(PYTHON313)" $(NEW)
	[ -z "$(PYTHON313)" ] || $(NEW)/bin/pip install --quiet --editable .
	touch $@

$(LAB44)/.installed:
	tests/make_venv.sh $(PYTHON) $(LAB44)
	$(LAB44)/bin/pip install --quiet 'jupyterlab>=4,<5' 'jupyter-server-proxy==4.4.*'
	touch $@

$(LAB45)/.installed:
	tests/make_venv.sh $(PYTHON) $(LAB45)
	$(LAB45)/bin/pip install --quiet 'jupyterlab>=4,<5' 'notebook>=7,<8' 'jupyter-server-proxy==4.5.*'
	touch $@

$(AUTOBAHN)/.installed: tests/autobahn/setup.sh | $(VENV)/.installed
	tests/autobahn/setup.sh $(BIN)/python $(AUTOBAHN)
	touch $@

clean:
	rm -rf $(VENV) $(OTHERS) $(AUTOBAHN) .venv-matrix build dist *.egg-info
