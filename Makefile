# One definition of "clean": people, the pre-commit hooks and .ci/run all call these targets.
UV ?= uv
RUN = $(UV) run --all-packages

.PHONY: help install format lint typecheck test test-slow test-kills fuzz browser bench check-gpu docs docs-run wheels release lock check-lock

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install:  ## Set up .venv with all three packages and the tools.
	$(UV) sync --all-packages

format:  ## Rewrite the code in the project's format.
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

lint:  ## Format, style, and the direction of imports.
	$(RUN) ruff format --check .
	$(RUN) ruff check .

typecheck:  ## pyright.
	$(RUN) pyright

test:  ## The test suite: CPU, offline, under ten minutes on two cores.
	$(RUN) pytest -n auto

test-kills:  ## Every resumable command, killed at its opens, writes, syncs and renames.
	$(RUN) python tests/kills/run.py

test-slow:  ## What needs more than half a minute: full-size models.
	$(RUN) pytest -m slow

fuzz:  ## Every reader, on thousands of damaged and hostile files: about twenty minutes.
	FUZZ_CASES=1600 $(RUN) pytest tests/test_fuzz.py --timeout 0 -p no:cacheprovider

browser:  ## dcar app in Debian's Chromium; screenshots in tests/browser/screenshots.
	$(RUN) pytest -m browser tests/browser

bench:  ## Speed, as ratios against a peer in the same run; names what fell by more than a tenth.
	OMP_NUM_THREADS=1 $(RUN) pytest benchmarks --benchmark-timer=time.process_time

check-gpu:  ## What was only run on a CPU, on this machine's GPU: MINUTES=2; writes runs/check-gpu.
	$(RUN) python benchmarks/speed/check_gpu.py --minutes $(or $(MINUTES),2)

docs:  ## The documentation site, into site/; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet

docs-run:  ## Every block of the documentation, run; what needs what is not here is composed or parsed.
	$(RUN) python tests/pages.py

wheels:  ## Wheels and sdists on every Python that is here, installed and run outside of the repository.
	.ci/wheels 3.11 3.12 3.13

release:  ## Wheels and sdists of one version in dist/, checked: REPOSITORY=https://...; publishes nothing.
	$(RUN) python .ci/release.py --repository "$(REPOSITORY)"

lock:  ## Resolve again and write requirements.lock.
	$(UV) lock
	$(UV) export --all-packages --quiet --no-emit-workspace --format requirements.txt --no-header -o requirements.lock

check-lock:  ## Fail if requirements.lock is not what the resolution gives.
	@$(UV) export --all-packages --quiet --no-emit-workspace --format requirements.txt --no-header -o .requirements.now
	@diff -u requirements.lock .requirements.now || (rm -f .requirements.now; echo "requirements.lock is stale: make lock" >&2; exit 1)
	@rm -f .requirements.now
