# The commands of this project; CI calls these and has no logic of its own.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help components demo test slow again lint types fmt bench timing neighbour faults soak fuzz admin-fuzz scale registries rules image compose-test simulate custody rotation-soak lock clean

help:            ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 15

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "groat needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)   ## Run all four roles for real, on loopback, with throw-away keys
	$(BIN)/groat demo

# Four processes on whatever cores there are: for most of their time tests wait for servers and disks.
test: $(STAMP)   ## Run every test (installs what they need; npm peers where npm is present)
	$(BIN)/pytest -n 4 --dist loadfile

slow: $(STAMP)   ## The tests that take minutes and rarely fail: replicas, proxies and generated clients for real
	$(BIN)/pytest -m slow -n 4 --dist loadfile

again: $(STAMP)  ## Run once more, alone, what failed in the last `make test`, if that is at most three tests
	$(BIN)/python -m tests.again

lint: $(STAMP)   ## Style, format, import contracts, docs/rules.md up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m tests.rules_index --check

types: $(STAMP)  ## mypy --strict over everything; what users write (typing_tests) by pyright, too
	$(BIN)/mypy
	$(BIN)/basedpyright

fmt: $(STAMP)    ## Format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ONLY="F14" or ONLY="F12 and nginx": those scenarios alone.
FAULTS := $(BIN)/python -m pytest -q -o "python_files=scenario_*.py" $(if $(ONLY),-k "$(ONLY)")
NONE := $(if $(ONLY),|| test $$? -eq 5)

faults: $(STAMP) ## Kills, cuts, storms and overload on real replicas, in a few minutes (docs/reliability.md)
	GROAT_FAULTS=ci $(FAULTS) -n 2 tests/faults --ignore tests/faults/scenario_overload.py $(NONE)
	GROAT_FAULTS=ci $(FAULTS) tests/faults/scenario_overload.py $(NONE)

soak: $(STAMP)   ## The same in full: millions of requests, hundreds of kills, for hours
	GROAT_FAULTS=soak $(FAULTS) tests/faults

# REQUESTS=5000 SEED=7: so many, and the same mutations again.
fuzz: $(STAMP)   ## A million mutated requests against a real server, judged by a second reading (an hour at most)
	$(BIN)/python -m tests.fuzz $(or $(REQUESTS),1000000) $(SEED)

# EXAMPLES=30 SEED=7: so many for each operation, and the same again.
admin-fuzz: $(STAMP) ## Requests made from the admin API's own description, against a real server (a minute)
	$(BIN)/python -m tests.admin_api.fuzz $(or $(EXAMPLES),5) $(or $(SEED),1)

scale: $(STAMP)  ## Cost with up to a million clients and ten million uses; the limit of one PostgreSQL (docs/scaling.md)
	$(BIN)/python -m benchmarks.replicas
	$(BIN)/python -m benchmarks.postgres_limit
	$(BIN)/python -m benchmarks.scaling

registries: $(STAMP) ## Ten thousand random registries exported, applied and exported again (tests run 50)
	GROAT_REGISTRIES=10000 $(BIN)/pytest -q --timeout 0 tests/server/operations/test_export.py -k random

rules: $(STAMP)  ## Write the generated pages anew: docs/rules.md, docs/reference/reasons.md and settings.md
	$(BIN)/python -m tests.rules_index
	$(BIN)/python -m tests.reasons_page
	$(BIN)/python -m tests.settings_page

bench: $(STAMP)  ## Ratios to the raw signature cost and to a peer, in one run (needs wrk and npm)
	cd tests/interop/node && npm ci --silent
	$(BIN)/python -m benchmarks

timing: $(STAMP) ## Whether the time of a refusal tells which clients exist (some minutes)
	$(BIN)/python -m benchmarks.enumeration
	$(BIN)/python -m benchmarks.enumeration --publishers --rounds 1000

neighbour: $(STAMP) ## What clients get beside somebody who fails all the time, or 300 times at once (minutes)
	$(BIN)/python -m benchmarks.neighbour
	$(BIN)/python -m benchmarks.neighbour --workers 2
	$(BIN)/python -m benchmarks.burst
	$(BIN)/python -m benchmarks.burst --workers 2

components:      ## Install the programs that some tests need: PostgreSQL, PgBouncer, SoftHSM2 and more (Debian, root)
	which pgbouncer softhsm2-util openssl ssh-keygen setpriv systemd-analyze >/dev/null 2>&1 && ls /usr/lib/postgresql >/dev/null || { \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends \
	  postgresql pgbouncer softhsm2 openssl openssh-client util-linux systemd procps >/dev/null; }

image:           ## Build the container image groat:local
	docker build -f deploy/Dockerfile -t groat:local .

compose-test: $(STAMP) ## Run the containers for real and check them (needs root, a Docker engine and Compose)
	$(BIN)/pytest -m engine -v --no-header tests/deploy

simulate: $(STAMP) ## Twenty thousand histories of the key rotation (tests run 300)
	GROAT_HISTORIES=20000 $(BIN)/pytest -q tests/rotation/test_simulation.py

custody: $(STAMP) ## The custodians' tests, SoftHSM2 included (installs it by apt-get where it is missing)
	test -e /usr/lib/softhsm/libsofthsm2.so || $(MAKE) components
	$(BIN)/pytest -q tests/keys/custody/test_custodians.py tests/cli/test_custody.py

rotation-soak: $(STAMP) ## A new signing key every second for 300 s under load: two replicas, four verifiers
	$(BIN)/python -m tests.rotation.soak 300 180

lock:            ## Resolve and hash the dependencies anew
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-strip-extras --quiet requirements/dev.in -o requirements/dev.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-strip-extras --quiet requirements/runtime.in -o requirements/runtime.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-strip-extras --quiet --constraint requirements/dev.txt requirements/build.in -o requirements/build.txt

clean:           ## Remove what these commands made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/interop/node/node_modules tests/interop/mcp_suite/node_modules
