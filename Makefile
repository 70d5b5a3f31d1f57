# make demo | test | check | bench | fuzz | clean: each sets up what it needs and starts in seconds the second time.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
CORE_SOURCES := $(wildcard csrc/*.c csrc/*.h) csrc/build.py csrc/libsodium.py csrc/libsodium.lock setup.py
SHELL_SCRIPTS := .ci/run $(wildcard tools/*.sh tests/support/*.sh) $(addprefix tools/package/debian/,postinst prerm postrm)
export TCCP_WERROR ?=

.PHONY: all setup system-packages check-packages test coverage check bench fuzz demo clean lock documents man completions \
    sdist wheel deb
.DELETE_ON_ERROR:

all: setup

# ---- set-up ----------------------------------------------------------------------------------------------------

setup: system-packages $(VENV)/.core

system-packages:
	@tools/system_packages.sh tools/apt-packages.txt

# Everything from the lock file, by hash; then tccp itself, editable.
$(VENV)/.installed: requirements.lock | system-packages
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

$(VENV)/.core: $(VENV)/.installed pyproject.toml $(CORE_SOURCES)
	$(BIN)/python csrc/libsodium.py build
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

# The lock files are made from pyproject.toml on purpose, never by the way.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
lock:
	$(LOCK) --extra dev --extra lanes --output-file requirements.lock pyproject.toml
	$(LOCK) --extra bench --constraint requirements.lock --output-file requirements-bench.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --output-file requirements-runtime.lock pyproject.toml

# What is made from the schema of configuration files; a test says when it is due.
documents: setup
	$(BIN)/python tools/documents.py

# As of the last commit, so that the same tree always gives the same files. For these programs alone: pip would compile
# an environment in another way.
DATED = SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || date +%s)}

# For `man -l build/man/tccp.1`, and for packages.
man: setup
	$(DATED) $(BIN)/python -m tools.man build/man

completions: setup
	$(BIN)/python -m tools.completion build/completions

# ---- daily -----------------------------------------------------------------------------------------------------

# One process of pytest more than there are CPUs, as tests also wait; JOBS=0 runs all in one, and so does plain pytest.
JOBS ?= $(shell expr $$(nproc) + 1)
test: setup
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder -p no:benchmark

# Branches of the packages that do no I/O, and of those around them, by their own tests.
COVERED := attestation protocol transparency core image tpm disk fuzz cli/image test_merkle.py test_model.py
coverage: setup
	mkdir -p build
	$(BIN)/pytest --quiet --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder -p no:benchmark \
	    --cov --cov-report=term --cov-report=json:build/coverage.json $(COVERED:%=tests/%)
	$(BIN)/python tools/covered.py build/coverage.json

# Everything but the long tests: style, types, import directions, C under sanitizers, shell scripts, documents, units.
check: setup check-packages check-native
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	shellcheck --severity=warning $(SHELL_SCRIPTS)
	$(BIN)/pytest --quiet tests/test_docs.py tests/test_documents.py tests/test_examples.py tests/protocol/test_document.py tests/protocol/test_document_vectors.py \
	    tests/fuzz tests/systemd/test_units.py

check-packages:
	@tools/system_packages.sh tools/apt-packages-check.txt

# KEEP=1 leaves the perimeter running and says what to try next.
demo: setup
	$(BIN)/python tools/demo.py $(if $(KEEP),--keep)

# BENCH="bench_quote bench_event_log" picks some; what they find replaces those sections of bench/RESULTS.md.
BENCH ?= $(patsubst bench/%.py,%,$(wildcard bench/bench_*.py))
bench: setup
	tools/system_packages.sh tools/apt-packages-bench.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	$(BIN)/python -m pytest -q $(BENCH:%=bench/%.py)
	$(BIN)/python -m bench.report

clean:
	rm -rf $(VENV) build dist mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f src/tccp/_core*.so src/tccp/_core.c
	rm -rf src/tccp.egg-info csrc/carried

# ---- packages, in build/dist --------------------------------------------------------------------------------------

DIST := build/dist
PACKAGED := $(wildcard $(shell git -c safe.directory='*' ls-files --cached --others --exclude-standard csrc docs src systemd tools 2>/dev/null)) MANIFEST.in README.md CHANGELOG.md pyproject.toml setup.py

sdist: $(DIST)/.sdist
wheel: $(DIST)/.wheel
deb: $(DIST)/.deb

$(DIST)/.sdist: $(PACKAGED) | setup
	rm -f $(DIST)/*.tar.gz
	$(DATED) $(BIN)/python -m tools.package.sdist $(DIST)
	touch $@

$(DIST)/.wheel: $(DIST)/.sdist
	rm -f $(DIST)/*.whl
	$(DATED) $(BIN)/python -m tools.package.wheel $(DIST)/*.tar.gz $(DIST)
	touch $@

# What tccp needs at run time, by hash; from here packages and their tests install without a network.
build/wheelhouse/.complete: requirements-runtime.lock | setup
	rm -rf build/wheelhouse
	$(BIN)/pip download --quiet --disable-pip-version-check --only-binary :all: --no-deps --require-hashes \
	    -r requirements-runtime.lock -d build/wheelhouse
	touch $@

$(DIST)/.deb: $(DIST)/.wheel build/wheelhouse/.complete bench/RESULTS.md
	rm -f $(DIST)/*.deb
	$(DATED) $(BIN)/python -m tools.package.deb $(DIST)/*.whl build/wheelhouse $(DIST)
	touch $@

-include csrc/native.mk
-include tools/fuzz/fuzz.mk
-include tools/mutants/mutants.mk
