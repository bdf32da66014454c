# The commands of this repository. A plain `make` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test bench chart soak tools fmt clippy rustdoc deny unit offline cluster node

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## Watch a real API server refuse the incidents; ONCE=1 ends when all is shown
	@ONCE='$(ONCE)' examples/demo.sh

test: ## Run all stages below, with minutes; what CI runs
	@.ci/test.sh

bench: ## Measure the release build against a bare echo of the same reviews
	@.ci/tools.sh wrk
	@benches/compare.sh

chart: ## Write what the chart has of the program, its table of values and examples/rendered
	FORESTALL_WRITE=1 cargo test --locked --test cluster chart::committed

soak: tools ## What takes longer: the memory beside 10,000 Pods, and the cluster tests against Kubernetes 1.34
	@tests/soak/memory.sh
	FORESTALL_KUBERNETES=1.34 cargo test --locked --test cluster

tools: ## Stage: check for what the stages need, install what is missing, and say so
	@.ci/tools.sh

fmt: ## Stage: formatting
	cargo fmt --check

clippy: ## Stage: lints, and the purity of the guardrails
	cargo clippy --locked --all-targets -- -D warnings

rustdoc: ## Stage: the documentation in the source
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --document-private-items

deny: ## Stage: licences, duplicates and sources of the dependencies
	.ci/cargo-deny.sh --offline check bans licenses sources

unit: ## Stage: tests beside the code
	cargo test --locked --lib

offline: ## Stage: docs/rules cases, the webhook and the command line, without a cluster
	cargo test --locked --test offline
	cargo test --locked --bench judge

cluster: ## Stage: a real control plane and a real registry
	cargo test --locked --test cluster

node: ## Stage: the image and the chart on a real node; needs root
	@.ci/tools.sh node
	cargo test --locked --test node
