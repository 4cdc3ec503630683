# Two commands for newcomers: `make demo` and `make test`. The rest is for working here: see CONTRIBUTING.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?= smollm2-135m
RAM ?= 400MiB
SOAK ?=
BENCH ?= --ceilings none,$(RAM)
ACTIVE ?= --help
PROMPT ?= Once upon a time, in a village by the sea, there lived
FUZZ_SECONDS ?= 30
SOURCES := runtime actors storage benchmarks tests

.PHONY: demo test check bench bench-active stress soak fuzz format clean

# Everything pinned: constraints.txt names the exact version of each package.
$(VENV)/run.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	@touch $@

demo: $(VENV)/run.stamp
	$(BIN)/tidemill pull $(MODEL)
	$(BIN)/tidemill run -m $(MODEL) -p "$(PROMPT)" -n 64 --ram $(RAM)

test: $(VENV)/dev.stamp
	$(BIN)/tidemill pull $(MODEL)
	-$(BIN)/python -m tests.compile_kernels  # failing, it saves no time
	$(BIN)/pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	-$(BIN)/python -m tests.compile_kernels  # failing, it saves no time
	$(BIN)/pytest -m "not slow and not system"

# BENCH=... gives decode_vs_peers.py what it compares with: see its --help, and benchmarks/fixtures/widen.py for a model.
bench: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/decode_vs_peers.py --model $(MODEL) $(BENCH)

# ACTIVE=... names the model, its conversions and what is compared: see benchmarks/README.md.
bench-active: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/active_weights.py $(ACTIVE)

# Every part under load for some seconds, with plots: see docs/stress.md.
stress: $(VENV)/dev.stamp
	mkdir -p build/stress
	for part in reader link arena predictor pipeline; do \
	  $(BIN)/tidemill stress $$part --html build/stress/$$part.html || exit 1; done

# Ten minutes of harm while a model decodes: see docs/stress.md. SOAK="--seed 7 --runtime 1h" for other ones, and more.
soak: $(VENV)/run.stamp
	$(BIN)/tidemill pull $(MODEL)
	mkdir -p build
	$(BIN)/tidemill stress soak -m $(MODEL) --directory build $(SOAK)

# Hostile input: the property tests with many examples, then every target for FUZZ_SECONDS under atheris, where there is one.
fuzz: $(VENV)/dev.stamp
	HYPOTHESIS_PROFILE=deep $(BIN)/pytest -m fuzz --timeout 3600 --hypothesis-show-statistics
	@if $(BIN)/pip install --quiet --only-binary :all: --constraint constraints.txt atheris; \
	then $(BIN)/python -m tests.fuzz $(FUZZ_SECONDS); \
	else echo "atheris has no wheel for this Python and machine: the property tests above are all that ran"; fi

format: $(VENV)/dev.stamp
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean:
	rm -rf $(VENV) build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz
