# Mutation tests with mutmut: what of attestation/, protocol/ and image/ can be changed without a test that notices?
#
#   make mutants           MUTANTS_SECONDS long, and goes on where it was the next time; what survived is shown.
#                          MUTANTS="tccp.protocol.ticket.*" tries some (again). What counts is in pyproject.toml:
#                          [tool.mutmut]. Ctrl-C stops it, and loses nothing but what was being tried.
#   make mutants-report    what has survived so far
#
# mutmut has an environment of its own: nothing but this needs it. docs/MUTANTS.md says what survives, and why.

MUTMUT := build/mutmut
MUTANTS ?=
MUTANTS_SECONDS ?= 3600

$(MUTMUT)/.installed: tools/mutants/requirements.lock $(VENV)/.installed
	rm -rf $(MUTMUT)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --target $(MUTMUT) -r $<
	touch $@

# In the foreground, or Ctrl-C would end make alone, once the time is over.
MUTMUT_RUN = nice -n 19 timeout --foreground --signal=INT $(MUTANTS_SECONDS) $(BIN)/python -m mutmut run

.PHONY: mutants mutants-report
mutants: setup $(MUTMUT)/.installed
	PYTHONPATH=$(MUTMUT) $(MUTMUT_RUN) $(MUTANTS) || [ $$? -eq 124 ]
	$(MAKE) --no-print-directory mutants-report

mutants-report:
	$(BIN)/python tools/mutants/report.py mutants
