# Everything a newcomer types is `make demo` and `make test`; each makes what it needs.

VENV ?= .venv
# A Python from 3.10 on that can make virtual environments; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 10))' \
	2>/dev/null && echo $$p && break; done)
RUN := $(VENV)/bin/python
# What is imported is compiled then; compiling all that is installed takes far longer.
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: demo test coverage test-slow test-all test-pydantic test-instructor test-clients \
	test-newest-clients test-litellm lint format bench \
	faults exactness methods replicas coherence clean

demo: $(VENV)/.demo
	@$(RUN) examples/demo.py

test: $(VENV)/.test
	$(RUN) -m pytest -m "not slow"

# The same with a report of what it leaves out, which takes a quarter longer.
coverage: $(VENV)/.test
	@$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest -m "not slow"
	@$(RUN) -m coverage report --skip-covered

test-slow: $(VENV)/.test
	$(RUN) -m pytest -m slow

# The quick suite on every supported Python that is installed.
VERSIONS ?= 3.10 3.11 3.12 3.13
test-all:
	@for v in $(VERSIONS); do \
		p=$$(python$$v -c 'import sys; print(sys.executable)' 2>/dev/null) || \
		p=$$(ls $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$v.*/bin/python 2>/dev/null | tail -n 1); \
		if [ -n "$$p" ]; then \
			echo "== Python $$v"; \
			$(MAKE) --no-print-directory test PYTHON=$$p VENV=.venv-$$v || exit 1; \
		else echo "== Python $$v is not installed"; fi; done

# What depends on Pydantic's inner life, on every minor version that is supported.
PYDANTICS ?= 2.11 2.12 2.13
test-pydantic:
	@for v in $(PYDANTICS); do \
		$(MAKE) --no-print-directory .venv-pydantic-$$v/.test VENV=.venv-pydantic-$$v || exit 1; \
		.venv-pydantic-$$v/bin/python -m pip install --quiet --disable-pip-version-check \
			--no-compile "pydantic==$$v.*" || exit 1; \
		echo "== Pydantic $$v"; \
		.venv-pydantic-$$v/bin/python -m pytest -q tests/test_codecs.py tests/test_exact.py \
			tests/test_returns.py tests/test_keys.py tests/test_source.py || exit 1; done

# What the oldest instructor answers, with the openai of its time, is kept and given back as well.
INSTRUCTORS ?= 1.9
WITH_INSTRUCTOR = $(shell grep -lE '^(from|import) instructor([. ]|$$)' tests/test_*.py)
test-instructor:
	@for v in $(INSTRUCTORS); do \
		$(MAKE) --no-print-directory .venv-instructor-$$v/.instructor \
			VENV=.venv-instructor-$$v INSTRUCTOR=$$v || exit 1; \
		echo "== instructor $$v"; \
		.venv-instructor-$$v/bin/python -m pytest -q -m "not slow" $(WITH_INSTRUCTOR) \
			|| exit 1; done

# The recipes for other clients, with the newest release of each package. litellm lives by itself:
# it holds openai back to a release that the newest of the others do not go with.
test-clients:
	@$(MAKE) --no-print-directory -j2 test-newest-clients test-litellm

test-newest-clients:
	@$(MAKE) --no-print-directory .venv-clients/.clients VENV=.venv-clients
	INSTRUCTOR_CACHE_TEST_CLIENTS="anthropic langchain_openai openai pydantic_ai" \
		.venv-clients/bin/python -m pytest -q tests/test_other_clients.py

test-litellm:
	@$(MAKE) --no-print-directory .venv-litellm/.litellm VENV=.venv-litellm
	INSTRUCTOR_CACHE_TEST_CLIENTS="litellm openai" \
		.venv-litellm/bin/python -m pytest -q tests/test_other_clients.py

lint: $(VENV)/.lint
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pyright --pythonpath $(RUN)

format: $(VENV)/.lint
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

# The disk store is measured among 20,000 entries; ENTRIES=1000000 takes 5 GB and some minutes.
bench: $(VENV)/.test
	$(RUN) benchmarks/speed.py
	$(RUN) benchmarks/codec_speed.py
	$(RUN) benchmarks/disk_scale.py $(ENTRIES)
	$(RUN) benchmarks/hit_ratio.py

# What a caller sees, and how long it takes, when what is behind the cache fails.
faults: $(VENV)/.test
	$(RUN) benchmarks/faults.py

# What 100 replicas over one Redis cost, with and without tiers, coherence and locks.
replicas: $(VENV)/.test
	$(RUN) benchmarks/replicas.py

# How soon a replica hears what another one changes, and what telling costs Redis.
coherence: $(VENV)/.test
	$(RUN) benchmarks/coherence.py

# How many awkward results come back as they were: ours, the guide's recipe, instructor's cache.
exactness: $(VENV)/.test
	$(RUN) benchmarks/exactness.py

# Which calls of an instructor client are answered from a cache: ours, instructor's own.
methods: $(VENV)/.test
	@$(RUN) benchmarks/methods.py

clean:
	rm -rf .venv .venv-* .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "make needs Python 3.10 or newer with its venv module \
	(on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo $(VENV)/.test $(VENV)/.lint: $(VENV)/.made pyproject.toml
	$(PIP) -e ".[$(patsubst .%,%,$(notdir $@))]"
	@touch $@

$(VENV)/.clients $(VENV)/.litellm: $(VENV)/.made pyproject.toml
	$(PIP) -e ".[$(patsubst .%,%,$(notdir $@)),runner]"
	@touch $@

$(VENV)/.instructor: $(VENV)/.made pyproject.toml
	$(PIP) -e ".[programs]" "instructor==$(INSTRUCTOR).*"
	@touch $@
