# make = build + lint + test. Needs Python >= 3.11 with `pip install '.[test,lint]'` done, gcc >= 10.
# Everything written lands in build/, dist/ or next to its source as an ignored file.

PYTHON ?= python
CC ?= cc
QUICK = -m "not slow and not soak"
export FENCELAB_SHARED ?= $(wildcard $(abspath ../shared))

C_STANDARD = -std=c11 -UNDEBUG -Icsim
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wswitch-enum -Werror
SANITIZE = -fsanitize=address,undefined,bounds-strict,float-cast-overflow \
	-fno-sanitize-recover=all -fno-omit-frame-pointer -g
SAN = build/san
# Every CPython newer than 3.11 that answers, pyenv's too: the one abi3 wheel must import there.
NEWER ?= python3.12 python3.13 python3.14 $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python3)

.PHONY: all build lint warnings test quick clusters san wheel tables quickstart sweeps goldens clean

all: build lint test

build: pysim/_csim.abi3.so

pysim/_csim.abi3.so: build.py $(wildcard csim/*.[ch])
	$(PYTHON) build.py

# No `ruff format --check`: in policies, machine rows and lowered tables the line breaks follow the
# kernel source or the data sheet. Width, imports, names and docstrings are checked.
lint: warnings
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

# Compiled, not only parsed: some warnings need the optimiser's view. Both compilers when there are.
warnings:
	@for cc in gcc clang; do \
		command -v $$cc >/dev/null || { echo "warnings: no $$cc here"; continue; }; \
		for file in csim/*.c; do \
			$$cc $(C_STANDARD) -O2 $(WARNINGS) -c $$file -o /dev/null || exit 1; \
		done; \
		echo "warnings: $$cc has none in csim/*.c"; \
	done

test: build
	$(PYTHON) -m pytest

quick: build
	$(PYTHON) -m pytest $(QUICK)

# Ray on several nodes of this machine: raylets that lack the package, die, come and go. In a row, and
# with nothing beside them: two clusters at once have starved each other. Twenty minutes are more than
# two tries to bring a cluster up, and then a machine at a tenth of its speed. Where nothing is built in
# place, the installed package is meant, as everywhere (tests/conftest.py).
clusters: $(if $(wildcard pysim/_csim.abi3.so),build)
	FENCELAB_CLUSTERS=1 $(PYTHON) -m pytest -n 0 -o timeout=1200 tests/yard/test_clusters.py \
		tests/yard/test_hosts.py tests/yard/test_growing.py

# The engine under AddressSanitizer and UndefinedBehaviorSanitizer, in a copy of the checkout so that
# the ordinary build stays. Python itself is not instrumented, hence the preload; PYTHONMALLOC makes
# each buffer that crosses the door a block of its own, so that one byte past it is seen. Leaks are
# off here because CPython keeps what it interned; tests/c looks for them in programs without Python.
# Left out: tests in which no line of the engine runs, those of tests/c, which are built with
# sanitizers wherever they run, and the yard's: what kills workers and limits their memory does not
# go with a shadow memory of terabytes, and asks the engine nothing that the others do not.
NO_ENGINE = docs test_c.py test_ftrace.py test_litmus.py test_packaging.py test_sheets.py \
	test_stats.py test_tidy.py yard
RUN_SAN = PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:handle_segv=0 \
	UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 FENCELAB_EXAMPLES=100 \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	$(PYTHON) -m pytest -q -p no:cacheprovider -o timeout=900
san:
	rm -rf $(SAN) && mkdir -p $(SAN)
	cp -R build.py setup.py pyproject.toml README.md csim pysim sweeps tests docs $(SAN)
	find $(SAN) -name '_csim*' -delete
	cd $(SAN) && CFLAGS="$(SANITIZE)" $(PYTHON) build.py >build.log 2>&1 || { cat build.log; exit 1; }
	nm -D $(SAN)/pysim/_csim.abi3.so | grep -q __asan_report
	nm -D $(SAN)/pysim/_csim.abi3.so | grep -q __ubsan_handle
	cd $(SAN) && $(RUN_SAN) -m "not soak" $(NO_ENGINE:%=--ignore=tests/%)
	cd $(SAN) && $(RUN_SAN) tests/test_mmu_oracle.py

# The wheel is built from the sdist, so the sdist has all that a build needs.
wheel:
	rm -rf dist build/lib build/bdist.* build/temp.* *.egg-info
	$(PYTHON) -c 'from setuptools.build_meta import build_sdist; build_sdist("dist")' >/dev/null
	$(PYTHON) -m pip wheel -q --no-deps -w dist dist/fencelab-*.tar.gz
	$(PYTHON) -m abi3audit --strict --verbose dist/*.whl
	@for python in $(NEWER); do \
		$$python -c '' 2>/dev/null || { echo "wheel: no $$python here"; continue; }; \
		rm -rf build/newer && $$python -m venv build/newer && \
		build/newer/bin/pip install -q cffi && \
		build/newer/bin/pip install -q --no-deps dist/*.whl && \
		(cd build && newer/bin/python -c 'import sys; from pysim._csim import ffi, lib; \
			print("wheel: imports under", sys.version.split()[0], ffi.string(lib.csim_build_id()))') \
		|| exit 1; \
	done

# Counters of some runs, written down. Run it when results are meant to move, and say so.
goldens: build
	PYTHONPATH=. $(PYTHON) tests/goldens.py

# docs/tables: what the engine, the policies and the machines say of themselves.
tables: build
	$(PYTHON) -m sweeps.reference_tables docs/tables

# The quickstart's tables, and the first of them in the README: 1,440 runs.
quickstart: build
	mkdir -p build
	$(PYTHON) -m sweeps.cli sweep quickstart --store build/quickstart.db --format github \
		> docs/tables/quickstart.md
	$(PYTHON) -m sweeps.reference_tables readme README.md docs/tables/quickstart.md

# The tables of the other questions that come with fencelab: about 3,500 runs, some minutes.
SWEEPS = hart-scaling negative-caching svvptc tlb-policy interconnect kernel-eras sensitivity
sweeps: build
	mkdir -p build
	for name in $(SWEEPS); do \
		$(PYTHON) -m sweeps.cli sweep $$name --store build/sweeps.db --format github \
			> docs/tables/sweep-$$name.md || exit 1; \
	done

clean:
	rm -rf build dist *.egg-info pysim/_csim* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
