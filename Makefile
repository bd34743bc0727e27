# Latchkey's commands. `make` alone lists them.
# .ci/install.sh installs what they need beside the Rust toolchain.

SHELL = /bin/sh
TOOLS = $(CURDIR)/target/tools

# Arguments that a target passes to its last command: make run ARGS="--help", make test ARGS="--test it sessions".
ARGS =

.DEFAULT_GOAL = help
# `make soak`: the duration in seconds, and the seed of an earlier run to repeat. An empty SEED takes a new seed.
SECONDS = 600
SEED =

.PHONY: help run release dist site test test-unit soak fuzz bench bench-growth bench-micro bench-feed bench-flood bench-rotation bench-build openapi docs fmt lint words audit audit-advisories

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  `make run` builds fast (minutes on 2 cores) and is fast enough to try things out. `make release` builds the binary'
	@echo '  to deploy and to measure, with link-time optimisation; it takes several times as long.'

run: ## build quickly and start the service with an embedded Redis and SQLite; installs Redis if there is none
	@sh .ci/install.sh run
	cargo build --profile quick --locked
	@exec target/quick/latchkey serve $(ARGS)

release: ## build the optimised binary, target/release/latchkey
	cargo build --release --locked

dist: ## build the packages of a release into target/dist: tarball, Debian package, RPM, bill of materials
	@sh .ci/install.sh dist
	sh packaging/dist.sh

SITE = target/site/$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

site: ## build the documentation as a static site into target/site/VERSION, and check its links
	@sh .ci/install.sh site
	python3 packaging/site/site.py stage target/site/stage
	PATH="$(TOOLS)/bin:$$PATH" mdbook build target/site/stage --dest-dir "$(CURDIR)/$(SITE)"
	python3 packaging/site/site.py check "$(SITE)"

# Tests wait for servers and browsers most of the time, so three tests run at once for every two cores.
TEST_THREADS = $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))

test: ## install what the tests need and run all of them
	@sh .ci/install.sh test
	RUST_TEST_THREADS=$(TEST_THREADS) TEST_TOOLS_DIR="$(TOOLS)" cargo test --workspace --locked $(ARGS)

test-unit: ## run the tests that need no server, browser or installation
	cargo test --workspace --locked --lib --bins $(ARGS)

bench: bench-build ## compare with the floor (the bare operation), FastAPI, Fastify and node-oidc-provider: make bench ROUNDS=1 ONLY=refresh
	target/release/latchkey-bench $(ARGS)

bench-growth: bench-build ## measure costs with more sessions, more nodes and a Redis Cluster
	target/release/latchkey-bench --growth $(ARGS)

bench-micro: ## compare tokens, codecs and password hashing with the bare cryptographic operations
	cargo bench --locked --bench micro -- $(ARGS)

bench-build:
	@sh .ci/install.sh bench
	cargo build --release --locked
	cargo build --release --locked --workspace --manifest-path bench/Cargo.toml --target-dir target

bench-feed: ## measure the delay from a sign-out or a change of roles to other nodes, and the cost of a delivery: make bench-feed ARGS=fan-out
	@sh .ci/install.sh test
	TEST_TOOLS_DIR="$(TOOLS)" cargo bench --locked --bench feed_latency -- $(ARGS)

bench-flood: ## measure refreshes and introspections while 2,000 users sign in at once
	@sh .ci/install.sh run
	cargo bench --locked --bench login_flood

bench-rotation: ## compare rotation rules: false sign-outs, and refreshes until a thief is detected
	@mkdir -p target
	rustc --edition 2024 -O benches/rotation.rs -o target/bench-rotation
	target/bench-rotation

soak: ## check random histories under random faults: make soak SECONDS=600 SEED=1
	@sh .ci/install.sh test
	TEST_TOOLS_DIR="$(TOOLS)" HISTORY_SECONDS="$(SECONDS)" $(if $(SEED),HISTORY_SEED="$(SEED)") \
	  cargo test --workspace --locked --test it history::random_history_with_faults_matches_the_session_model -- --nocapture

# Flags of the stable compiler that instrument the code for libFuzzer. `--target` below keeps them away from build scripts.
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
FUZZ_TARGETS = refresh_token session_record jwt forwarded config
FUZZ_SECONDS = 60

fuzz: ## fuzz codecs, tokens, headers and the configuration: make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS=jwt
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz \
	  --target "$$(rustc -vV | sed -n 's/^host: //p')"
	@mkdir -p target/fuzz/found
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p target/fuzz/corpus/$$target; \
	  echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
	  FUZZ_TARGET=$$target target/fuzz/*/debug/latchkey-fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -verbosity=0 \
	    -print_final_stats=1 -artifact_prefix=target/fuzz/found/$$target- target/fuzz/corpus/$$target fuzz/corpus/$$target || exit 1; \
	done

openapi: ## regenerate openapi/openapi.json, the committed copy of the API description
	@mkdir -p openapi target
	cargo run --locked --quiet -- openapi > target/openapi.json.new
	@mv target/openapi.json.new openapi/openapi.json
	@echo 'wrote openapi/openapi.json'

docs: ## regenerate docs/cli.md, docs/configuration.md and the types of clients/browser
	@sh .ci/install.sh test
	cargo run --locked --quiet -- man --markdown > target/cli.md.new && mv target/cli.md.new docs/cli.md
	cargo run --locked --quiet -- config reference > target/configuration.md.new && mv target/configuration.md.new docs/configuration.md
	"$(TOOLS)/bin/node" clients/browser/scripts/generate.mjs openapi/openapi.json clients/browser/src/api.ts

fmt: ## format the source
	cargo fmt --all
	cargo fmt --all --manifest-path bench/Cargo.toml

words: ## check the wording of comments, documents, messages and names (.ci/words.txt)
	@sh .ci/words.sh

# The benchmark is a workspace of its own, so that the tests do not build it.
lint: words ## check wording, formatting, and the warnings of clippy and rustdoc, also of the benchmark
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path bench/Cargo.toml
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --lib --bins --no-default-features --locked -- -D warnings
	cargo clippy --workspace --all-targets --locked --manifest-path bench/Cargo.toml --target-dir target -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

audit: ## check the licences and sources of the dependencies (deny.toml)
	@sh .ci/install.sh audit
	"$(TOOLS)/bin/cargo-deny" --locked check licenses sources bans

audit-advisories: ## check the dependencies against the RustSec advisories, which are fetched from GitHub
	@sh .ci/install.sh audit
	"$(TOOLS)/bin/cargo-deny" --locked check advisories
