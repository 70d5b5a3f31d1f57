# Mutation tests with mutmut: what of attestation/, protocol/ and image/ can be changed without a test that notices?
#
#   make mutants           MUTANTS_SECONDS long, and goes on where it was the next time; what survived is shown.
#                          MUTANTS="tccp.protocol.ticket.*" picks some. What counts is in pyproject.toml: [tool.mutmut]
#
# mutmut has an environment of its own: nothing but this needs it. docs/MUTANTS.md says what survives, and why.

MUTMUT := build/mutmut
MUTANTS ?=
MUTANTS_SECONDS ?= 3600

$(MUTMUT)/.installed: tools/mutants/requirements.lock $(VENV)/.installed
	rm -rf $(MUTMUT)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --target $(MUTMUT) -r $<
	touch $@

.PHONY: mutants
mutants: setup $(MUTMUT)/.installed
	PYTHONPATH=$(MUTMUT) nice -n 19 timeout $(MUTANTS_SECONDS) $(BIN)/python -m mutmut run $(MUTANTS) || [ $$? -eq 124 ]
	$(BIN)/python tools/mutants/report.py mutants
