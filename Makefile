# One command each: `make serve`, `make test`, `make bench`.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := bash
# Tests that load ONNX Runtime themselves do not tell its makers of it either.
export ORT_DISABLE_TELEMETRY := 1
.SHELLFLAGS := -euo pipefail -c

# The build that `make test` tries; `make test PROFILE=shipped` tries the one that images hold. The tests
# themselves are built for debugging either way, so that its dependencies are compiled already.
PROFILE ?= debug
# For how long `make fuzz` fuzzes each target, `make soak` goes on, and `make attacks` has each phase of an attack.
SECONDS ?= 600
attacks: SECONDS := $(if $(filter file default undefined,$(origin SECONDS)),10,$(SECONDS))
FUZZ_TARGETS := json binary signal websocket model
# What to pass on: `make serve ARGS='--listen 0.0.0.0:9000'`.
ARGS ?=

RELEASE := target/release/thalweg
BINARY := target/$(PROFILE)/thalweg
VENV := .venv/.made
PEERS := .venv-peers/.made
announce = @echo '== $@'
or_else = || { echo 'make $@: $(1)' >&2; exit 1; }

.PHONY: help serve test bench instructions peers fuzz soak attacks gateways clean
.PHONY: disk tools format lint dockerfiles python autobahn browser speech balancer build models test-models unit-tests fuzz-tests
.PHONY: kernel-tests sanitized-tests emulator device-tests model-tests manifests client-tests modelarts-tests soak-tests
.PHONY: prometheus monitoring proof-tests release

help:
	@echo 'make serve   build, fetch the models, and serve them (ARGS= for more options)'
	@echo 'make test    everything that must hold before a change is merged (PROFILE=shipped for that build)'
	@echo 'make bench   the benchmarks (ARGS= for a filter)'
	@echo 'make instructions   count those of each stage, against what is recorded (ARGS=--record for the record)'
	@echo 'make peers   Thalweg and other servers, measured in one run (ARGS= for a few of them)'
	@echo 'make fuzz    fuzz all that reads the bytes of others (SECONDS=600 for each target)'
	@echo 'make soak    see whether memory and file descriptors stay as they are (SECONDS=600)'
	@echo 'make attacks what a hundred honest streams notice of attacks (SECONDS=10 for each phase, ARGS= for some of them)'
	@echo 'make gateways silent sockets behind nginx and HAProxy for three of their time-outs (six minutes)'
	@echo 'make clean   remove what was built; models that were fetched stay'

serve: release
	@$(RELEASE) models fetch
	@exec $(RELEASE) serve $(ARGS)

test: disk tools format lint python dockerfiles emulator build models test-models autobahn unit-tests fuzz-tests \
		instructions kernel-tests sanitized-tests device-tests model-tests manifests browser speech balancer client-tests \
		modelarts-tests soak-tests prometheus monitoring proof-tests
	@echo 'make test: all passed'

bench: tools python release test-models
	$(announce)
	@$(RELEASE) models fetch
	@cargo bench --locked -- $(ARGS)

# Counts do not change with a machine's load, so that they can be compared where times cannot.
instructions: tools
	$(announce)
	@tests/find_valgrind >/dev/null
	@cargo bench --locked --quiet --profile instructions --bench instructions -- $(ARGS) \
		$(call or_else,a stage is not as recorded; see above)

# Installs other servers, some 600 MB, and takes a quarter of an hour.
peers: tools release test-models $(PEERS)
	$(announce)
	@$(RELEASE) models fetch
	@benches/peers/compare $(ARGS)

$(PEERS): benches/peers/requirements.txt
	@echo '== .venv-peers'
	@$$(tests/find_python) benches/peers/make_venv
	@touch $@

fuzz:
	@for target in $(FUZZ_TARGETS); do echo "== fuzz $$target"; fuzz/run $$target -max_total_time=$(SECONDS); done

soak: python release test-models
	@THALWEG_BIN=$(abspath $(RELEASE)) .venv/bin/python tests/soak.py --seconds $(SECONDS)

attacks: python release test-models
	@$(RELEASE) models fetch
	@THALWEG_BIN=$(abspath $(RELEASE)) .venv/bin/python tests/attacks.py --seconds $(SECONDS) $(ARGS)

# As `make test` does in seconds, with the time-outs and the pings that nobody has changed.
gateways: python release test-models balancer
	@$(RELEASE) models fetch
	@GATEWAYS_AS_THEY_ARE=1 THALWEG_BIN=$(abspath $(RELEASE)) .venv/bin/python -m pytest tests/clients/test_gateways.py $(ARGS)

clean:
	cargo clean
	rm -rf .venv .venv-peers .autobahn fuzz/target tests/models/repository

disk:
	$(announce)
	@tests/enough_disk

tools:
	$(announce)
	@command -v cargo >/dev/null $(call or_else,install Rust with cargo; rust-version in Cargo.toml says which)
	@tests/find_python >/dev/null

format:
	$(announce)
	@cargo fmt --check $(call or_else,run `cargo fmt`)

lint:
	$(announce)
	@cargo clippy --all-targets --locked --quiet -- -D warnings $(call or_else,mend what clippy says above)
	@cargo clippy --all-targets --locked --quiet --features cuda -- -D warnings $(call or_else,mend what clippy says above)

python: $(VENV)

$(VENV): tests/requirements.txt tests/requirements_alone.txt
	@echo '== python'
	@rm -rf .venv
	@$$(tests/find_python) -m venv .venv
	@.venv/bin/python -m pip install --quiet --require-hashes -r $< \
		$(call or_else,the packages in $< could not be installed; is there a network?)
	@.venv/bin/python -m pip install --quiet --require-hashes --no-deps -r tests/requirements_alone.txt \
		$(call or_else,the packages in tests/requirements_alone.txt could not be installed; is there a network?)
	@touch $@

dockerfiles: $(VENV)
	$(announce)
	@.venv/bin/hadolint --failure-threshold style Dockerfile Dockerfile.cuda deploy/modelarts/Dockerfile $(call or_else,mend what hadolint says above)

build:
	$(announce)
	@cargo build --locked $(if $(filter-out debug,$(PROFILE)),--profile $(PROFILE)) $(call or_else,mend what the compiler says above)

release:
	@cargo build --locked --release

models:
	$(announce)
	@$(BINARY) models fetch $(call or_else,what models/fetch.lock names could not be fetched; is there a network?)

test-models: $(VENV)
	$(announce)
	@.venv/bin/python tests/models/make_models.py

autobahn:
	$(announce)
	@tests/find_autobahn >/dev/null

unit-tests:
	$(announce)
	@cargo test --locked --quiet $(call or_else,a test failed; its name and what it expected are above)

# Enough to see that the fuzzers work and that nothing is found at once; `make fuzz` looks for longer.
fuzz-tests:
	$(announce)
	@for target in $(FUZZ_TARGETS); do \
		CARGO_PROFILE_RELEASE_OPT_LEVEL=1 fuzz/run $$target -runs=20000 -seed=1 -verbosity=0 >/dev/null \
			$(call or_else,an input that breaks a promise lies in fuzz/artifacts; or there is no C++ compiler); \
	done

# An emulated GPU, on which the tests of the kernels run.
emulator:
	$(announce)
	@tests/emulator/build >/dev/null

kernel-tests: $(VENV)
	$(announce)
	@.venv/bin/python -m pytest tests/kernels $(call or_else,a kernel does not compile as it should; see above)

sanitized-tests:
	$(announce)
	@tests/emulator/build asan >/dev/null
	@cargo test --locked --quiet --test kernels --config 'target."cfg(all())".runner = "$(abspath tests/emulator/sanitized)"' \
		$(call or_else,a kernel goes beyond its memory or does what is undefined; see above)

# The code for GPUs on an emulated one: as it is, with copies and kernels that take their time, and with
# AddressSanitizer. NVRTC compiles the kernels; the emulated driver takes what it makes, and runs its own build of them.
DEVICE_TESTS := cargo test --locked --quiet --features cuda --test device --test device_ops
SANITIZED := --config 'target."cfg(all())".runner = "$(CURDIR)/tests/emulator/sanitized"'

device-tests: $(VENV)
	$(announce)
	@export LD_LIBRARY_PATH="$(CURDIR)/$$(tests/emulator/build):$$(.venv/bin/python tests/find_nvrtc)" && \
		$(DEVICE_TESTS) && EMULATED_GPU_DELAY=300 $(DEVICE_TESTS) -- gpu:: onnx:: refused:: && $(DEVICE_TESTS) $(SANITIZED) \
		$(call or_else,what is said above is wrong on a GPU)

model-tests: $(VENV)
	$(announce)
	@.venv/bin/python -m pytest tests/models

# What is in deploy/, against schemas and against a server that runs as it says.
manifests: $(VENV)
	$(announce)
	@THALWEG_BIN=$(abspath $(BINARY)) .venv/bin/python -m pytest tests/deploy \
		$(call or_else,what is in deploy/ would not be taken or would not work; see above)

browser:
	$(announce)
	@tests/find_browser >/dev/null

speech:
	$(announce)
	@tests/find_speech >/dev/null

balancer:
	$(announce)
	@tests/find_haproxy >/dev/null
	@tests/find_nginx >/dev/null

prometheus:
	$(announce)
	@tests/find_prometheus >/dev/null

client-tests: $(VENV)
	$(announce)
	@THALWEG_BIN=$(abspath $(BINARY)) .venv/bin/python -m pytest tests/clients \
		$(call or_else,a client was not served as it should be; see above)

# On a network of their own, since ModelArts' port is fixed.
modelarts-tests: $(VENV)
	$(announce)
	@THALWEG_BIN=$(abspath $(BINARY)) tests/modelarts/alone .venv/bin/python -m pytest -c tests/pytest.ini tests/modelarts \
		$(call or_else,the image or its script is not as ModelArts wants it; see above)

# A minute of what `make soak` does for longer.
soak-tests: $(VENV)
	$(announce)
	@THALWEG_BIN=$(abspath $(BINARY)) .venv/bin/python tests/soak.py --seconds 60 \
		$(call or_else,the server keeps what it should not; see above)

# The proof for a GPU, rehearsed without one.
proof-tests: $(VENV)
	$(announce)
	@THALWEG_BIN=$(abspath $(BINARY)) .venv/bin/python -m pytest tests/gpu \
		$(call or_else,the proof would not run on a GPU either; see above)

# A real Prometheus watches real servers. One of its alerts is about a GPU that is not found, so the build can use one.
monitoring: $(VENV)
	$(announce)
	@cargo build --locked --quiet --features cuda
	@THALWEG_BIN=$(abspath target/debug/thalweg) .venv/bin/python -m pytest tests/monitoring \
		$(call or_else,the server cannot be watched as it should be; see above)
