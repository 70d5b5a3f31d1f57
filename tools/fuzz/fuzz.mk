# Fuzzing what Python parses (tests/fuzz/targets.py) with Atheris; a part of `make fuzz`.
#
#   make fuzz-python       FUZZ_SECONDS each; FUZZ_PYTHON="messages policy" picks some
#
# Atheris has an environment of its own: nothing but this needs it.

ATHERIS := build/fuzz/atheris
FUZZ_PYTHON ?= $(if $(filter command environment,$(firstword $(origin FUZZ))),,frames messages control statements coordinator_evidence trust_file policy log_note log_checkpoint log_tile ticket ticket_file launch_receipt vm_file http_request http_response boot_policy signed_policy digest_list keylime_policy image package)

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
