# The README's two commands, and the ones that measure. Each does its own set-up.

SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help setup run test fmt lint docs gate gate-record loadgen bench bench-smoke bench-rooms figures deb

help:
	@echo "make run    build and start systole with its embedded configuration, http://localhost:9090"
	@echo "make test   every check: format, lints, tests, docs"
	@echo "make gate   instruction counts of hot paths against the record"
	@echo "make deb    a Debian package"
	@echo "make bench-smoke  a small load beside Prometheus and VictoriaMetrics, under three minutes"
	@echo "make bench        the whole set beside them, about 25 minutes; docs/performance/report.html"
	@echo "make bench-rooms  one benchmark a question, of single rooms"

# Names in one line what is missing, and installs it where it can.
setup:
	@command -v $(CARGO) >/dev/null || { echo "missing: a Rust toolchain (rustc and cargo 1.95 or newer), see https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "missing: a C compiler; installing gcc"; \
	  $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq gcc libc6-dev || { echo "install it by hand: apt-get install gcc libc6-dev"; exit 1; }; }

run: setup
	$(CARGO) build --release --locked --bin systole
	@mkdir -p data
	exec ./target/release/systole --storage.tsdb.path=data

test: setup fmt lint
	$(CARGO) test --locked --workspace -- --quiet
	$(MAKE) --no-print-directory gate docs

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# Private items are documented too, so links to them lead somewhere.
docs:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# Instructions of hot paths against benches/gate/record.txt. Always built whole and alike: what is built piece by piece,
# or for one processor, is another program.
GATE = CARGO_INCREMENTAL=0 RUSTFLAGS= $(CARGO) run --quiet --locked --profile gate -p gate --

gate: setup
	$(GATE)

# make gate-record REASON="why the numbers changed"
gate-record: setup
	$(GATE) --record "$(REASON)"

# Peers that cannot be had here are left out, with a word.
SYSTEMS := ours=./target/release/systole,prometheus?,victoriametrics?

loadgen: setup
	$(CARGO) build --release --locked -p systole -p systole-loadgen --target-dir target
	./target/release/systole-loadgen peers || true

# A small S1, Q1, O1 and W1 beside the peers, in under three minutes; the report is target/bench-smoke.html.
bench-smoke: loadgen
	./target/release/systole-loadgen smoke --systems '$(SYSTEMS)' \
	  --json target/bench-smoke.json --html target/bench-smoke.html

# The whole set. Its exit code says whether all was as it must be; the report is written in any case.
bench: loadgen
	@mkdir -p docs/performance
	./target/release/systole-loadgen bench --systems '$(SYSTEMS)' \
	  --json docs/performance/report.json --html docs/performance/report.html
	$(MAKE) --no-print-directory figures

# The README's table, from the report.
figures:
	./target/release/systole-loadgen table docs/performance/report.json README.md

bench-rooms: setup
	$(CARGO) bench --locked --workspace

# A Debian package in target/debian; needs cargo-deb: cargo install cargo-deb
deb: setup
	@command -v cargo-deb >/dev/null || { echo "missing: cargo-deb; install it: cargo install cargo-deb --locked"; exit 1; }
	$(CARGO) build --profile dist --locked --bin systole
	$(CARGO) deb --no-build --profile dist
