# Sheaf. `make` lists the targets; `make run` and `make test` set up what they need by themselves.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# ONNX Runtime is called through cgo. Said here because Go switches cgo off by itself when it finds no C compiler, and
# then fails with a message that does not say so. The tools are built with it too, and so share what is compiled.
export CGO_ENABLED := 1

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null || true)
LDFLAGS ?= -X main.version=$(VERSION) -X main.commit=$(COMMIT)

ADDR ?= 127.0.0.1:8080
ARGS ?=
GOTEST ?= go test
TESTFLAGS ?=
PYTESTFLAGS ?=
FUZZTIME ?= 20s
VENV := .cache/models-venv
CLIENT_VENV := .cache/client-venv
SCHEMATHESIS_VENV := .cache/schemathesis-venv
BENCH_VENV := .cache/bench-venv

##@ Use
.PHONY: help run build
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A Ctrl-C ends sheaf in good order. Its status 130 is then no error of make's.
run: build ## Build and start everything in one process (ADDR=127.0.0.1:8080, ARGS=more flags)
	@trap : INT; bin/sheaf dev --addr $(ADDR) $(ARGS) || test $$? -eq 130

build: toolchain onnxruntime ## Build bin/sheaf
	@test -x bin/sheaf || echo "building bin/sheaf (the first time takes a minute or two)" >&2
	@go build -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/sheaf ./cmd/sheaf

##@ Check
.PHONY: test test-js test-python schemathesis smoke lint vulncheck fuzz bench bench-http bench-grpc bench-lanes bench-fair bench-overload bench-backfill bench-backfill-lanes soak chaos chaos-backfill compose-test
test: deps ## Run all tests, against a real redis-server and nats-server among others (TESTFLAGS="-race -shuffle=on")
	@$(GOTEST) $(TESTFLAGS) ./...

test-js: build node clients/js/node_modules/.package-lock.json ## Check the types of the JavaScript client, and test it against bin/sheaf dev, in Node and in Chromium
	@scripts/install-programs chromium
	@cd clients/js && node_modules/.bin/tsc && node --test --test-timeout=300000 --test-reporter=spec test/*.test.js

test-python: build $(CLIENT_VENV)/ready ## Lint and test the Python client, and Triton's clients, against bin/sheaf dev (PYTESTFLAGS="-k bulk")
	@cd clients/python && ../../$(CLIENT_VENV)/bin/ruff check -q . && ../../$(CLIENT_VENV)/bin/ruff format -q --check .
	@cd clients/python && ../../$(CLIENT_VENV)/bin/mypy --no-error-summary
	@cd clients/python && PYTHONDONTWRITEBYTECODE=1 ../../$(CLIENT_VENV)/bin/python -m pytest -q $(PYTESTFLAGS)

schemathesis: build programs $(SCHEMATHESIS_VENV)/ready ## Hold bin/sheaf dev to the OpenAPI document that it serves (ARGS="--max-examples 200")
	@scripts/schemathesis $(ARGS)

smoke: build ## Start bin/sheaf dev, run the command that it prints, check the answers
	@scripts/smoke

lint: toolchain bin/golangci-lint ## Run the linters and the formatter (gofumpt), changing nothing
	@bin/golangci-lint run --allow-parallel-runners ./...

vulncheck: toolchain bin/govulncheck ## Look for known vulnerabilities, where their database can be reached
	@scripts/vulncheck

fuzz: deps ## Fuzz each fuzz test for a while (FUZZTIME=20s)
	@scripts/fuzz $(FUZZTIME)

bench: deps build ## Measure throughput and latency (ARGS=flags of the benchmark)
	@cd bench && go run . $(ARGS)

bench-lanes: deps build ## Measure interactive latency beside a backfill, and the backfill beside interactive jobs (ARGS="-model mlp")
	@cd bench && go run . lanes $(ARGS)

bench-http: deps build ## Measure submits over HTTP, one by one and in bulk, beside a synchronous server of the same model
	@cd bench && go run . http $(ARGS)

bench-grpc: deps build ## Measure what a job costs with 1 to 256 calls in flight, over HTTP and gRPC
	@cd bench && go run . grpc $(ARGS)

bench-fair: deps build ## Measure what one tenant notices of another that floods (ARGS=flags, see bench/README.md)
	@cd bench && go run . fair $(ARGS)

bench-overload: deps build ## Offer five times what is sustainable over HTTP, and count what finishes in time
	@cd bench && go run . overload $(ARGS)

bench-backfill: deps build $(BENCH_VENV)/ready ## Measure `sheaf backfill` of a million rows beside bare loops, and compare every row (ARGS="-rows 10000000 -rounds 1")
	@cd bench && go run . backfill -python ../$(BENCH_VENV)/bin/python $(ARGS)

bench-backfill-lanes: deps build ## Measure interactive latency of a heavy model beside `sheaf backfill`, and without
	@cd bench && go run . backfill-lanes $(ARGS)

soak: deps build ## Run for an hour at half load, then work off 300 backlogs of 50,000 jobs (ARGS="-duration 10m -drains 30")
	@cd bench && go run . soak $(ARGS)

chaos: deps build ## Kill, stop and cut off processes under load, and count what is lost, wrong or flipped (ARGS="-quick")
	@go run ./chaos $(ARGS)

chaos-backfill: deps build ## Kill `sheaf backfill`, workers and Redis, start them again, and compare the output with an undisturbed one
	@cd bench && go run . backfill-chaos $(ARGS)

compose-test: ## Start docker compose with three workers, send the held-out rows, compare the answers, stop it
	@scripts/compose-test

##@ Change
.PHONY: format generate models models-check
format: toolchain bin/golangci-lint ## Format the code
	@bin/golangci-lint fmt ./...

generate: toolchain ## Run go generate
	@go generate ./...

models: $(VENV)/ready ## Train the demonstration models again (Python)
	@PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python examples/models/train.py

models-check: $(VENV)/ready ## Train the demonstration models, and fail if they are not as good as the committed ones
	@PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python examples/models/train.py --check

##@ Set up
.PHONY: deps toolchain node onnxruntime programs python clean distclean
deps: toolchain onnxruntime programs bin/nats-server bin/versitygw bin/fake-gcs-server ## Fetch and build what tests need: ONNX Runtime, redis-server, nats-server, storage servers

toolchain:
	@command -v go >/dev/null || { echo "Go is needed, 1.26 or newer: https://go.dev/dl" >&2; exit 1; }
	@command -v "$$(go env CC | cut -d' ' -f1)" >/dev/null || { echo "a C compiler is needed ($$(go env CC) was not found): on Debian, apt-get install gcc libc6-dev" >&2; exit 1; }

node:
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "Node.js is needed, 20 or newer: https://nodejs.org" >&2; exit 1; }

onnxruntime: ## Put the ONNX Runtime library into bin/lib
	@scripts/fetch-onnxruntime bin/lib

programs: ## Install redis-server and curl if they are missing (Debian, root)
	@scripts/install-programs

python: ## Install Python and its venv if they are missing (Debian, root)
	@scripts/install-programs python3 python3-venv

bin/nats-server: go.mod
	@echo "building bin/nats-server (the first time takes a minute)" >&2
	@go build -buildvcs=false -o $@ github.com/nats-io/nats-server/v2
	@touch $@

bin/versitygw: tools/storage/go.mod
	@echo "building bin/versitygw, an S3 server (the first time takes some minutes)" >&2
	@cd tools/storage && go build -buildvcs=false -o ../../$@ github.com/versity/versitygw/cmd/versitygw
	@touch $@

bin/fake-gcs-server: tools/storage/go.mod
	@cd tools/storage && go build -buildvcs=false -o ../../$@ github.com/fsouza/fake-gcs-server
	@touch $@

bin/golangci-lint: tools/go.mod
	@echo "building bin/golangci-lint (the first time takes some minutes)" >&2
	@cd tools && go build -buildvcs=false -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

bin/govulncheck: tools/go.mod
	@cd tools && go build -buildvcs=false -o ../$@ golang.org/x/vuln/cmd/govulncheck
	@touch $@

bin/gotestsum: tools/go.mod
	@cd tools && go build -buildvcs=false -o ../$@ gotest.tools/gotestsum
	@touch $@

$(VENV)/ready: examples/models/requirements.txt | python
	@echo "making a Python environment in $(VENV)" >&2
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(SCHEMATHESIS_VENV)/ready: scripts/schemathesis.d/requirements.txt | python
	@echo "making a Python environment in $(SCHEMATHESIS_VENV)" >&2
	@python3 -m venv $(SCHEMATHESIS_VENV)
	@$(SCHEMATHESIS_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(CLIENT_VENV)/ready: clients/python/requirements.txt | python
	@echo "making a Python environment in $(CLIENT_VENV)" >&2
	@python3 -m venv $(CLIENT_VENV)
	@$(CLIENT_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

$(BENCH_VENV)/ready: bench/requirements.txt | python
	@echo "making a Python environment in $(BENCH_VENV)" >&2
	@python3 -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

clients/js/node_modules/.package-lock.json: clients/js/package-lock.json
	@cd clients/js && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

clean: ## Remove what was built, keep what was downloaded
	rm -rf bin coverage.out

distclean: clean ## Remove what was downloaded as well
	rm -rf .cache clients/js/node_modules
