# The verbs of this repository. `make help` lists them.
# Everything runs from .venv and with this checkout as collection flowfleet.langflow; nothing is installed elsewhere.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Which lab: `lab` (five hosts), `single` (everything on one), `fleet` (eight, in the shape of inventories/production).
INVENTORY ?= lab
SCENARIO := $(patsubst lab,default,$(INVENTORY))
INVENTORY_PATH := $(firstword $(wildcard inventories/$(INVENTORY) molecule/$(INVENTORY)/inventory))

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/collections
export ANSIBLE_INJECT_FACT_VARS := false
export ANSIBLE_NOCOWS := 1
export PYTHONUNBUFFERED := 1
# Molecule folds its output at the terminal's width.
export COLUMNS ?= 160

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap: ## Make .venv with the locked tools; a second call does nothing
	@tools/bootstrap

# --- the lab ----------------------------------------------------------------------------------------------------------

.PHONY: up
up: bootstrap ## Create the lab and bring Langflow up in it (INVENTORY=single: on one host, fleet: on eight)
	@tools/lab up $(SCENARIO)
	ansible-playbook -i $(INVENTORY_PATH) flowfleet.langflow.site
	ansible-playbook -i $(INVENTORY_PATH) flowfleet.langflow.smoke
	tools/lab login $(SCENARIO)

.PHONY: down
down: bootstrap ## Remove the lab's hosts, secrets and CA
	@tools/lab down $(SCENARIO)

.PHONY: lab-artifacts
lab-artifacts: bootstrap ## Make the programs of the log tier that Debian does not have (optional; needs Go's module proxy and Maven Central)
	@tools/lab_artifacts/make

.PHONY: ssh
ssh: ## Open a shell on a host: make ssh HOST=app1
	@tools/lab ssh $(or $(HOST),$(error name a host: make ssh HOST=app1))

# --- the tests --------------------------------------------------------------------------------------------------------

.PHONY: test
test: bootstrap ## Everything that a change must pass: lint, unit, sanity, the Molecule scenarios of the whole cluster and of the data tier
	@tools/phases lint unit sanity molecule molecule-data

.PHONY: test-all
test-all: bootstrap ## `make test`, the collection as an artifact, and the scenarios on one host and with two load balancers
	@tools/phases lint unit sanity build molecule molecule-data molecule-single molecule-edge

.PHONY: lint
lint: bootstrap ## yamllint, ansible-lint (profile production), ruff, mypy
	@yamllint --strict .
	# It keeps a copy of the collection there, which it prefers to the work tree: never one from elsewhere.
	rm -rf .cache/ansible
	ANSIBLE_HOME=$(CURDIR)/.cache/ansible ansible-lint --offline
	ruff check .
	ruff format --check .
	mypy

.PHONY: unit
unit: bootstrap ## Unit and contract tests
	@mkdir -p .lab/reports
	# By file: what a file makes once for all its tests is made by one process.
	pytest tests/unit -n auto --dist loadfile --junitxml=.lab/reports/unit.xml

.PHONY: sanity
sanity: bootstrap ## ansible-test sanity, without any ignore file
	@tools/sanity.sh

.PHONY: molecule
molecule: bootstrap ## The default scenario on the lab: check mode, converge, idempotence, check mode, verify
	@tools/lab engine
	mkdir -p .lab/reports
	molecule test -s default

.PHONY: molecule-single
molecule-single: bootstrap ## The same on one host
	@tools/lab engine
	mkdir -p .lab/reports
	molecule test -s single

.PHONY: molecule-edge
molecule-edge: bootstrap ## Two load balancers with a shared address, the firewall, Valkey
	@tools/lab engine
	mkdir -p .lab/reports
	molecule test -s edge

.PHONY: molecule-data
molecule-data: bootstrap ## Three database servers that take over for each other, behind the service proxy
	@tools/lab engine
	mkdir -p .lab/reports
	molecule test -s data

.PHONY: bench-converge
bench-converge: bootstrap ## Measure a first run and a no-op run on a fresh lab (INVENTORY=fleet: on eight hosts)
	@tools/lab engine
	python tools/bench_converge.py --scenario $(SCENARIO) --inventory $(INVENTORY_PATH)

# --- the demo ----------------------------------------------------------------------------------------------------------

.PHONY: demo-celery
demo-celery: bootstrap ## Show tasks on the lab that `make up` made: API, command line, batch, schedule, cancel, result
	@python -m tools.drills.tasks_demo

# --- the drills -------------------------------------------------------------------------------------------------------

# DRILL=3: only that one. Results are kept in .lab/drills; docs/testing.md says what each drill proves.
.PHONY: drill-rolling
drill-rolling: bootstrap ## Change a live cluster under load, and break it on purpose (DRILL=1..5)
	@tools/lab engine
	python -m tools.drills rolling $(DRILL)

# REPEAT=30: so many faults of each kind instead of 10 or 3.
.PHONY: drill-data
drill-data: bootstrap ## Kill, cut off and restore what Langflow's data lives on, under a ledger (DRILL=0..7, REPEAT=n)
	@tools/lab engine
	python -m tools.drills data $(DRILL) $(addprefix --repeat ,$(REPEAT))

# DRILL=worker-killed, host-lost, redis, node-rolls, api, roll, beat-lost or control; REPEAT=50: so many tasks instead of 200.
.PHONY: drill-celery
drill-celery: bootstrap ## Take away what carries tasks: worker, host, Redis, Langflow, API, beat (DRILL=worker-killed..., REPEAT=n)
	@tools/lab engine
	python -m tools.drills celery $(DRILL) $(addprefix --repeat ,$(REPEAT))

# CASE=node_stopped: only that fault. SOAK=60: so many minutes of quiet instead of 20.
.PHONY: drill-alerts
drill-alerts: bootstrap ## Provoke alerts, time them from the fault to the receiver, and see that quiet is quiet (DRILL=1..6, CASE=, SOAK=)
	@tools/lab engine
	python -m tools.drills.alerts $(DRILL) $(addprefix --case ,$(CASE)) $(addprefix --soak ,$(SOAK))

# DRILL=runs, tasks, outage, disk, masking or agent; REPEAT=500: so many hot runs instead of 5000.
.PHONY: drill-logs
drill-logs: bootstrap ## Follow requests through logs and traces, take the log tier away, look for what must be masked (DRILL=runs..., REPEAT=n)
	@tools/lab engine
	tools/lab_artifacts/make || echo "Some parts of the log tier could not be made here: drills that need them will say so."
	python -m tools.drills logs $(DRILL) $(addprefix --repeat ,$(REPEAT))

.PHONY: drill-encryption
drill-encryption: bootstrap ## Encryption at rest on an emulated machine with disks of its own
	@python -m tools.drills.encryption

.PHONY: drill
drill: bootstrap ## All drills, one tier after the other
	@status=0
	for tier in drill-rolling drill-data drill-celery drill-alerts drill-logs drill-encryption; do $(MAKE) $$tier || status=1; done
	exit $$status

# --- the artifact and the pages ---------------------------------------------------------------------------------------

.PHONY: build
build: bootstrap ## Build the collection, install it into an empty folder, use it from there by its full name
	@tools/build_check

.PHONY: docs
docs: bootstrap ## Regenerate the pages and tables that are made from argument_specs
	@python tools/docs.py

.PHONY: dashboards
dashboards: bootstrap ## Make Grafana's dashboards and Prometheus' console pages from the list of panels
	@python tools/panels.py

.PHONY: docs-site
docs-site: bootstrap ## Build docs/ and the plugin pages as one HTML site
	@tools/docsite.sh

.PHONY: lock
lock: bootstrap ## Renew the locked development requirements
	@uv pip compile -q --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" requirements-dev.in -o requirements-dev.txt
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" molecule/lab/files/s3-standin.in -o molecule/lab/files/s3-standin.txt
	roles/celery/files/flowfleet_tasks/lock.sh

.PHONY: clean
clean: ## Remove caches and reports; the lab stays
	@rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .lab/reports *.tar.gz
