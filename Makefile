# Latchkey's commands. `make` alone lists them.
# What they install beside the Rust toolchain is in .ci/install.sh.

SHELL = /bin/sh
TOOLS = $(CURDIR)/target/tools

# More words for the command at the end of a target: make run ARGS="--help", make test ARGS="--test it sessions".
ARGS =

.DEFAULT_GOAL = help
# How long `make soak` goes on, and the seed whose choices it repeats; none for a new one.
SECONDS = 600
SEED =

.PHONY: help run test soak fuzz bench bench-growth bench-micro bench-feed bench-flood bench-build openapi fmt lint audit audit-advisories

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build and start the service with a Redis and a database of its own; installs Redis where there is none
	@sh .ci/install.sh run
	cargo build --release --locked
	@exec cargo run --release --locked --quiet -- serve $(ARGS)

test: ## install what the tests need and run them all
	@sh .ci/install.sh test
	TEST_TOOLS_DIR="$(TOOLS)" cargo test --workspace --locked $(ARGS)

bench: bench-build ## measure beside the limits, FastAPI and Fastify: make bench ROUNDS=1 ONLY=refresh
	target/release/latchkey-bench $(ARGS)

bench-growth: bench-build ## measure what a request costs with more sessions, more nodes and a Redis Cluster
	target/release/latchkey-bench --growth $(ARGS)

bench-micro: ## measure tokens, codecs and the password threads, each beside its bare limit
	cargo bench --locked --bench micro -- $(ARGS)

bench-build:
	@sh .ci/install.sh bench
	cargo build --release --locked
	cargo build --release --locked --workspace --manifest-path bench/Cargo.toml --target-dir target

bench-feed: ## measure how long after a sign-out on one node a subscriber of another knows of it
	@sh .ci/install.sh run
	cargo bench --locked --bench feed_latency

bench-flood: ## measure what is left of the rate of refreshes and introspections while 2,000 users sign in at once
	@sh .ci/install.sh run
	cargo bench --locked --bench login_flood

soak: ## check histories of users under random faults for long: make soak SECONDS=600 SEED=1
	@sh .ci/install.sh test
	TEST_TOOLS_DIR="$(TOOLS)" HISTORY_SECONDS="$(SECONDS)" $(if $(SEED),HISTORY_SEED="$(SEED)") \
	  cargo test --locked --test it history::nothing -- --nocapture

# Coverage, for libFuzzer, by what a stable compiler has; a folder of its own for what is built so.
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
FUZZ_TARGETS = refresh_token session_record jwt forwarded config
FUZZ_SECONDS = 60

fuzz: ## look for input that breaks codecs, tokens, headers or the configuration: make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS=jwt
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz \
	  --target "$$(rustc -vV | sed -n 's/^host: //p')"
	@mkdir -p target/fuzz/found
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p target/fuzz/corpus/$$target; \
	  echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
	  FUZZ_TARGET=$$target target/fuzz/*/debug/latchkey-fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -verbosity=0 \
	    -print_final_stats=1 -artifact_prefix=target/fuzz/found/$$target- target/fuzz/corpus/$$target fuzz/corpus/$$target || exit 1; \
	done

openapi: ## write openapi/openapi.json, the committed copy of the API's description, anew
	@mkdir -p openapi target
	cargo run --locked --quiet -- openapi > target/openapi.json.new
	@mv target/openapi.json.new openapi/openapi.json
	@echo 'wrote openapi/openapi.json'

fmt: ## format the source
	cargo fmt --all
	cargo fmt --all --manifest-path bench/Cargo.toml

# The benchmark is a workspace of its own, so that the tests don't build it.
lint: ## check the format, and clippy's warnings as errors, those of the benchmark too
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path bench/Cargo.toml
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --workspace --all-targets --locked --manifest-path bench/Cargo.toml --target-dir target -- -D warnings

audit: ## check the licences and sources of the dependencies (deny.toml)
	@sh .ci/install.sh audit
	"$(TOOLS)/bin/cargo-deny" --locked check licenses sources bans

audit-advisories: ## check the dependencies against the RustSec advisories, which are fetched from GitHub
	@sh .ci/install.sh audit
	"$(TOOLS)/bin/cargo-deny" --locked check advisories
