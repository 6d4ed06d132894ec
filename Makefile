# make demo | test | quick | nightly | doctor | lint | clean        another Python: make test PYTHON=python3.11
PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check

.PHONY: demo test quick nightly doctor lint clean

demo: .venv/.installed
	$(PY) scripts/demo.py

# Two processes, one for all tests of Jittor (tests/conftest.py).
test: .venv/.installed-dev
	$(PY) -m pytest -m "not nightly" -n 2 --dist loadgroup $(PYTEST)

# No Jittor, no training, no data: to be called after every change. test_parity.py starts Jittor when it is read.
quick: .venv/.installed-dev
	$(PY) -m pytest -m "not slow and not jittor and not data and not nightly" -n 2 --dist loadfile \
		--ignore=tests/trees/test_parity.py $(PYTEST)

# What `make test` has no time for.
nightly: .venv/.installed-dev
	$(PY) -m pytest -m nightly $(PYTEST)

# Before anything is installed the doctor still says what is missing, with the plain Python.
doctor:
	@if [ -x $(PY) ]; then $(PY) -m liif_core doctor; else $(PYTHON) -m liif_core doctor; fi

lint: .venv/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# Never touches save/ (trained models) or load/ (data).
clean:
	rm -rf demo_out .pytest_cache .ruff_cache .mypy_cache
	find . \( -path ./.venv -o -path ./.git -o -path ./load -o -path ./save \) -prune \
		-o -type d -name __pycache__ -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo "$(PYTHON) is not a Python of 3.10 to 3.12: name one, for example make test PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments: install its venv module, for example with sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

# The stamp files make a second call instant and free of the network.
.venv/.installed: requirements.txt | $(PY)
	$(PIP) install -r requirements.txt
	@touch $@

.venv/.installed-dev: requirements.txt requirements-dev.txt | $(PY)
	$(PIP) install -r requirements-dev.txt
	@touch $@ .venv/.installed
