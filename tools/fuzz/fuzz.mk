# Fuzzing what Python parses (tests/fuzz/targets.py) with Atheris; a part of `make fuzz`.
#
#   make fuzz-python       all of them, FUZZ_SECONDS each; FUZZ_PYTHON="messages policy" picks some
#
# Atheris has an environment of its own: nothing but this needs it.

ATHERIS := build/fuzz/atheris
# All of them, unless FUZZ= picks some in C; asked for only inside a recipe, after the environment is there, and once.
FUZZ_PYTHON ?= $(if $(filter command environment,$(firstword $(origin FUZZ))),,$(ALL_FUZZ_PYTHON))
ALL_FUZZ_PYTHON = $(eval ALL_FUZZ_PYTHON := $(shell $(BIN)/python -m tests.fuzz.targets))$(ALL_FUZZ_PYTHON)

$(ATHERIS)/.installed: tools/fuzz/requirements.lock $(VENV)/.installed
	rm -rf $(ATHERIS)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --target $(ATHERIS) -r $<
	touch $@

.PHONY: fuzz-python
fuzz-python: setup $(ATHERIS)/.installed
	@set -e; for target in $(FUZZ_PYTHON); do \
	    echo "fuzz $$target: $(FUZZ_SECONDS) s"; mkdir -p build/fuzz/python/$$target; \
	    PYTHONPATH=.:$(ATHERIS) $(BIN)/python tools/fuzz/run.py $$target build/fuzz/python/$$target $(FUZZ_SECONDS); done

fuzz: fuzz-python
