# aptmesh: `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

BIN     ?= bin/aptmesh
BINPATH := $(abspath $(BIN))
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# A count, not a time: when -fuzztime is a time, Go's coordinator can take its
# own deadline for a failure (golang/go#75804).
FUZZTIME ?= 5000x

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## run a node on :3142 and print what to type on a host
	$(BINPATH) serve

.PHONY: build
build: ## build bin/aptmesh, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/aptmesh

.PHONY: test
test: ## all tests, with the race detector; the ones that need apt, root or a mirror say so when they skip
	go test -race -timeout 18m ./...

.PHONY: unit
unit: ## all tests but the end-to-end ones
	go test -race $$(go list ./... | grep -v /e2e)

.PHONY: e2e
e2e: ## the built binary with real apt
	go test -v -count=1 -timeout 20m ./e2e

.PHONY: clients
clients: ## the tests with dnf5, zypper, pacman and apt of another Debian release: CLIENTS=sid (as root, with a Debian mirror; minutes)
	APTMESH_CLIENTS=$(or $(CLIENTS),sid) go test -v -count=1 -timeout 20m -run 'Client|SnapshotService|Dnf|RPM|Zypper|Zchunk|Pacman|Layouts|AptOutlives|AptSnapshot|Channel' ./e2e

.PHONY: differential
differential: ## odd archives, those of rpm and pacman too, directly and through nodes, in every mode (DIFFERENTIAL="-rows 'HTTP/1.0'")
	go test -v -count=1 -timeout 60m ./e2e/differential -full $(DIFFERENTIAL)

.PHONY: check
check: fmt vet lint test fuzz ## everything a change must pass; what CI runs

.PHONY: fmt
fmt: ## fail if a file is not as gofmt writes it
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "not formatted (gofmt -w FILE):"; echo "$$files"; exit 1; fi

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: lint
lint: ## staticcheck, at the version go.mod names
	go tool staticcheck ./...

.PHONY: docs
docs: ## what is made from the code: docs/configuration.md and deploy/aptmesh.yaml (the tests fail when they are old)
	go test -count=1 -run TestGeneratedFiles ./node/config -update

.PHONY: proto
proto: ## generate proto/peerpb from its .proto file again (needs protoc)
	GOBIN='$(CURDIR)/bin' go install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	PATH="$(CURDIR)/bin:$$PATH" protoc --go_out=. --go_opt=module=github.com/aptmesh/aptmesh \
	  --go-grpc_out=. --go-grpc_opt=module=github.com/aptmesh/aptmesh proto/peerpb/peer.proto

.PHONY: fuzz
fuzz: ## every fuzz test for FUZZTIME (5000x) each
	@grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u | xargs -P "$$(nproc)" -I % .ci/fuzz % $(FUZZTIME)

.PHONY: bench
bench: build ## aptmesh beside nginx, Varnish and apt-cacher-ng in one run, as a table of ratios (BENCH=--quick for the short form)
	go run ./e2e/bench $(BENCH)

.PHONY: matrix
matrix: ## every fault of every mirror, as hosts see it, into docs/faults.md (MATRIX='--filter "404,package"' for some)
	go run ./e2e/matrix $(if $(MATRIX),$(MATRIX),--format all --out docs/faults.md)

.PHONY: answers
answers: ## what real apt of several releases does with every HTTP status, into docs/answers.md (as root, with a Debian mirror)
	go run ./e2e/answers --out docs/answers.md

.PHONY: soak
soak: build ## 20 minutes of hosts, publications, failing mirrors and dying nodes (SOAK='--for 2m --seed 1')
	go run ./e2e/soak --binary $(BIN) $(SOAK)

.PHONY: aptsuite
aptsuite: build ## apt's own integration tests through a node, into docs/apt-tests.md (TESTS='test-apt-update-ims' for some)
	go run ./e2e/aptsuite --binary $(BIN) $(APTSUITE) $(if $(TESTS),-v $(TESTS),--out docs/apt-tests.md)

.PHONY: cases
cases: build ## small reproductions of reported faults, in Python with its own archive and real apt (CASES='e2e/cases/M3*.py' for some)
	@bad=0; for f in $(or $(CASES),$(filter-out %/lab.py %/brlab.py,$(wildcard e2e/cases/*.py e2e/cases/br/*.py))); do \
	  if out=$$(APTMESH_BIN=$(BINPATH) timeout 300 python3 $$f 2>&1); then echo "ok   $$f"; else bad=1; echo "FAIL $$f"; echo "$$out" | tail -5; fi; \
	done; exit $$bad

.PHONY: demo
demo: build ## three nodes as one cache on this machine, with an archive and real apt (DEMO="--format rpm" with dnf, DEMO=--keep leaves them running)
	go run ./e2e/demo --binary $(BIN) $(DEMO)

PREFIX  ?= /usr/local
DESTDIR ?=

.PHONY: install
install: $(if $(wildcard $(BIN)),,build) ## bin/aptmesh as a service, with its user, completions and a sample configuration (PREFIX=/usr/local, DESTDIR= for packages)
	install -D -m 0755 $(BIN) '$(DESTDIR)$(PREFIX)/bin/aptmesh'
	install -D -m 0644 /dev/null '$(DESTDIR)$(PREFIX)/lib/systemd/system/aptmesh.service'
	sed 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' deploy/aptmesh.service >'$(DESTDIR)$(PREFIX)/lib/systemd/system/aptmesh.service'
	install -D -m 0644 deploy/aptmesh.sysusers '$(DESTDIR)$(PREFIX)/lib/sysusers.d/aptmesh.conf'
	install -D -m 0644 deploy/aptmesh.tmpfiles '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/aptmesh.conf'
	install -D -m 0644 deploy/aptmesh.yaml '$(DESTDIR)$(PREFIX)/share/doc/aptmesh/aptmesh.yaml'
	install -d -m 0755 '$(DESTDIR)/etc/aptmesh'
	@for shell in bash:bash-completion/completions/aptmesh zsh:zsh/site-functions/_aptmesh fish:fish/vendor_completions.d/aptmesh.fish; do \
	  install -D -m 0644 /dev/null '$(DESTDIR)$(PREFIX)/share/'"$${shell#*:}"; \
	  $(BINPATH) completion "$${shell%%:*}" >'$(DESTDIR)$(PREFIX)/share/'"$${shell#*:}"; \
	done
	@if [ -z '$(DESTDIR)' ]; then \
	  systemd-sysusers '$(PREFIX)/lib/sysusers.d/aptmesh.conf'; \
	  systemd-tmpfiles --create '$(PREFIX)/lib/tmpfiles.d/aptmesh.conf'; \
	  if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi; \
	  echo 'installed; next: systemctl enable --now aptmesh'; \
	fi

.PHONY: uninstall
uninstall: ## what install made, except /etc/aptmesh and what a node wrote
	rm -f '$(DESTDIR)$(PREFIX)/bin/aptmesh' '$(DESTDIR)$(PREFIX)/lib/systemd/system/aptmesh.service' '$(DESTDIR)$(PREFIX)/lib/sysusers.d/aptmesh.conf' \
	  '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/aptmesh.conf' \
	  '$(DESTDIR)$(PREFIX)/share/doc/aptmesh/aptmesh.yaml' '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/aptmesh' \
	  '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_aptmesh' '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/aptmesh.fish'

# What deploy/Dockerfile copies.
IMAGE           ?= aptmesh
IMAGE_CONTEXT   ?= bin/image
CA_CERTIFICATES ?= /etc/ssl/certs/ca-certificates.crt

.PHONY: image
image: ## the container image "aptmesh", from scratch: no registry is asked
	rm -rf '$(IMAGE_CONTEXT)'
	install -d -m 0755 '$(IMAGE_CONTEXT)' '$(IMAGE_CONTEXT)/cache' '$(IMAGE_CONTEXT)/lib'
	install -d -m 0775 '$(IMAGE_CONTEXT)/cache/aptmesh' '$(IMAGE_CONTEXT)/lib/aptmesh'
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o '$(IMAGE_CONTEXT)/aptmesh' ./cmd/aptmesh
	if [ -r '$(CA_CERTIFICATES)' ]; then install -m 0644 '$(CA_CERTIFICATES)' '$(IMAGE_CONTEXT)/ca-certificates.crt'; \
	else echo 'no $(CA_CERTIFICATES): the image will not trust any https archive'; touch '$(IMAGE_CONTEXT)/ca-certificates.crt'; fi
	docker build -t '$(IMAGE)' -f deploy/Dockerfile '$(IMAGE_CONTEXT)'

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
