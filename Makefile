# Everything by one word. Each target installs what it lacks and says so; `make help` lists them.

# The Postgres version that regress and isolation tests run on: 15, 16 or 18.
PG ?= 15
XTASK := cargo run --quiet --package xtask --

.PHONY: all run test install installcheck regress isolation page fresh bench chaos soak setup clean help

all: setup ## build the extension and the sidecar as users run them
	@$(XTASK) build --release --pg $(PG)

run: ## start everything on this machine and print an address; DATABASE_URL=... uses an existing database
	@xtask/setup.sh $(if $(DATABASE_URL),sidecar,build)
	@$(XTASK) run

test: ## build, lint and run all tests on private servers
	@xtask/setup.sh build versions clients
	@$(XTASK) test --pg $(PG)

regress: setup ## the extension's SQL tests alone; PG=18 runs them on another version
	@$(XTASK) build-extension --pg $(PG)
	@$(XTASK) regress --pg $(PG)

isolation: setup ## the extension's concurrency tests alone
	@$(XTASK) build-extension --pg $(PG)
	@$(XTASK) isolation --pg $(PG)

page: ## use the demo page in a headless browser
	@xtask/setup.sh build browser
	@$(XTASK) build
	@cargo test --package realtime-tests --test chromium

install: setup ## put the extension into the server of PG_CONFIG and the sidecar into PREFIX/bin
	@$(XTASK) install

installcheck: setup ## SQL tests against the server that PGHOST, PGPORT and PGUSER name, after `make install`
	@$(XTASK) installcheck

fresh: ## clone and run in a bare Debian, as a newcomer would; FRESH_PAGE=1 and FRESH_TEST=1 do more there
	@xtask/setup.sh chroot
	@xtask/fresh.sh

setup: ## install what building and testing need
	@xtask/setup.sh build $(if $(filter 16 18,$(PG)),versions)

bench: setup ## measure what it costs, one figure a line; ROWS="latency wal" measures these alone
	@$(XTASK) bench $(ROWS)

chaos: setup ## kill everything a hundred times under load, and count: lost 0, duplicated 0; takes half an hour
	@$(XTASK) chaos --pg $(PG)

soak: setup ## 10,000 clients, a million rows, an hour of load (SOAK_SECONDS): nothing grows, nobody waits
	@$(XTASK) soak --pg $(PG)

clean: ## remove everything that was built, and the data of `make run`
	@$(XTASK) clean

help: ## list these words
	@sed -n 's/^\([a-z]*\):.* ## /\1\t/p' Makefile | expand -t 14
