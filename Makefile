# `make repro` runs the pipeline, `make test` the tests; both set up what they need in .venv, once.
# PYTHON=... chooses the interpreter, 3.11 or 3.12. Without make: `pip install -e .` and `dvc repro` do the same.

VENV := .venv
STAMP := $(VENV)/.installed
REPORT := data/results/evaluate/report/index.html

# A waiting thread that spins makes two busy processes on one machine several times slower.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0
# DVC runs `python -m stages.<name>`: it has to be this one.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help repro test check bench clean

help:
	@echo 'make repro   run the stages that have to run; the report is $(REPORT)'
	@echo 'make test    run all tests'
	@echo 'make check   lint, format and types'
	@echo 'make bench   measure speed and memory (40 minutes on two cores)'
	@echo 'make clean   remove .venv and caches; data, results and resume slots stay'

repro: $(STAMP)
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	@before=$$(cksum dvc.lock 2>/dev/null); dvc repro || exit; \
	if [ "$$before" = "$$(cksum dvc.lock 2>/dev/null)" ]; then echo 'Nothing had to be done.'; fi; \
	echo 'The report is $(REPORT)'

test: $(STAMP)
	@python -m pytest -q

check: $(STAMP)
	@ruff check . && ruff format --check . && mypy

bench: $(STAMP)
	@python -m benchmarks

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is missing is named before anything is made: an interpreter, its venv module and headers, git, a C++ compiler
# (pydensecrf2 is built from source).
$(STAMP): pyproject.toml
	@fail() { echo "error: $$1" >&2; echo "hint: $$2" >&2; exit 1; }; \
	command -v git >/dev/null || fail 'git is missing' 'install git, for example `apt-get install git`'; \
	fits='import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))'; \
	chosen=; for candidate in $(if $(PYTHON),'$(PYTHON)',python3.12 python3.11 python3 python); do \
		if "$$candidate" -c "$$fits" 2>/dev/null; then chosen=$$candidate; break; fi; \
	done; \
	[ -n "$$chosen" ] || fail 'there is no Python 3.11 or 3.12$(if $(PYTHON), at $(PYTHON))' \
		'install one, or name it: `make repro PYTHON=/path/to/python3.12`'; \
	version=$$("$$chosen" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	"$$chosen" -c 'import ensurepip, venv' 2>/dev/null || \
		fail "$$chosen has no venv module" "install it, for example \`apt-get install python$$version-venv\`"; \
	"$$chosen" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || \
		fail "$$chosen has no C headers" "install them, for example \`apt-get install python$$version-dev\`"; \
	compiler=; for candidate in "$${CXX:-c++}" c++ g++ clang++; do \
		if command -v "$$candidate" >/dev/null; then compiler=$$candidate; break; fi; \
	done; \
	[ -n "$$compiler" ] || fail 'there is no C++ compiler' 'install one, for example `apt-get install g++`'; \
	echo "Setting up $(VENV) with Python $$version; this downloads torch, once."; \
	"$$chosen" -m venv $(VENV) && CXX="$$compiler" CC="$${CC:-$$(command -v cc || echo "$$compiler")}" \
		$(VENV)/bin/python -m pip install --disable-pip-version-check --editable '.[dev]'
	@touch $@
