# The commands of this repository. A plain `make` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test bench chart soak programs newcomer tools fmt clippy shell rustdoc deny unit offline cluster node

# For what would go on when make is killed: it is told to end, too.
ends_with_make := setpriv --pdeathsig TERM

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Watch a real API server refuse the incidents; ONCE=1 ends when all is shown, NODE=1 runs it on a node
	@ONCE='$(ONCE)' NODE='$(NODE)' $(ends_with_make) examples/demo.sh

test: ## Run all stages below, with minutes; what CI runs
	@$(ends_with_make) .ci/test.sh

bench: ## Measure the program as shipped against a bare echo of the same reviews
	@.ci/tools.sh wrk
	@$(ends_with_make) tests/programs/build.sh bench
	@benches/compare.sh

chart: ## Write what the chart has of the program, its table of values and examples/rendered
	@$(ends_with_make) tests/programs/build.sh cluster
	FORESTALL_WRITE=1 cargo test --locked --test cluster chart::committed

soak: ## What takes longer: the memory beside 10,000 Pods, and the cluster tests against Kubernetes 1.34
	@.ci/tools.sh
	@$(ends_with_make) tests/programs/build.sh soak
	@FORESTALL_KUBERNETES=1.34 $(ends_with_make) tests/programs/build.sh cluster
	@tests/soak/memory.sh
	FORESTALL_KUBERNETES=1.34 cargo test --locked --test cluster

newcomer: ## Stage: the first commands of the README, in a clone of HEAD
	@.ci/tools.sh git
	@$(ends_with_make) .ci/newcomer.sh

tools: ## Stage: check for what the stages need, install what is missing, and say so
	@.ci/tools.sh node curl git shellcheck

programs: ## Stage: fetch and build all programs that tests need, before any runs; FOR=demo only those of the demo
	@$(ends_with_make) tests/programs/build.sh $(or $(FOR),test)

fmt: ## Stage: formatting
	cargo fmt --check

clippy: ## Stage: lints, and the purity of the guardrails
	cargo clippy --locked --all-targets -- -D warnings

shell: ## Stage: lints of the shell scripts
	shellcheck --external-sources $$(git ls-files '*.sh' .ci/run)

rustdoc: ## Stage: the documentation in the source
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --document-private-items

deny: ## Stage: licences, duplicates and sources of the dependencies
	@$(ends_with_make) tests/programs/build.sh deny
	.ci/cargo-deny.sh --offline check bans licenses sources

unit: ## Stage: tests beside the code
	cargo test --locked --lib

offline: ## Stage: docs/rules cases, the webhook and the command line, without a cluster
	@$(ends_with_make) tests/programs/build.sh offline
	cargo test --locked --test offline
	cargo test --locked --bench judge

cluster: ## Stage: a real control plane and a real registry
	@$(ends_with_make) tests/programs/build.sh cluster
	cargo test --locked --test cluster

node: ## Stage: the image and the chart on a real node; needs root
	@.ci/tools.sh node
	@$(ends_with_make) tests/programs/build.sh node
	cargo test --locked --test node
