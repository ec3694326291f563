# QSFS. Everything a user or a developer runs; README.md tells when to use what.

GO       ?= go
DESTDIR  ?=
PREFIX   ?= /usr
UNITDIR  ?= $(PREFIX)/lib/systemd/system
FUZZTIME ?= 2m
MOUNT    ?= /mnt/qsfs
STATE    ?= /var/lib/qsfs-run

export CGO_ENABLED := 0

PROGRAMS := zdb zstor zdbfs

.PHONY: all build run demo test test-long test-tools lint bench fuzz fuzz-short install clean

all: build

build:
	$(GO) build -trimpath -o bin/ $(foreach p,$(PROGRAMS),./$(p)/cmd/$(p))

# A whole installation on this machine: six nodes, both daemons, the mount. Ctrl-C ends it.
run: build
	$(GO) run ./test/devcluster -bin bin -mount "$(MOUNT)" -state "$(STATE)"

# The promise, shown: loses nodes and the machine itself, and compares every file.
demo: build
	$(GO) run ./test/demo -bin bin

# -p 2: the end-to-end tests need cores of their own to keep their deadlines.
test: test-tools
	$(GO) test -p 2 -timeout 24m ./...

test-long: test-tools
	QSFS_LONG=1 $(GO) test -p 1 -timeout 8h ./...

# What the tests call beside Go; installs only what is missing, as root on Debian.
test-tools:
	@sh test/tools.sh

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt wants to change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 -run '^TestArchitecture' ./test

bench: build test-tools
	$(GO) run ./bench/memory -bin bin

# Each fuzz target in turn.
fuzz:
	@GO="$(GO)" sh test/fuzz.sh $(FUZZTIME)

fuzz-short:
	$(MAKE) fuzz FUZZTIME=10s

install: build
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(PREFIX)/share/doc/qsfs/examples"
	install -d -m 0700 "$(DESTDIR)/etc/qsfs" "$(DESTDIR)/var/lib/qsfs"
	install -m 0755 $(addprefix bin/,$(PROGRAMS)) "$(DESTDIR)$(PREFIX)/bin/"
	install -m 0644 systemd/*.service systemd/*.target "$(DESTDIR)$(UNITDIR)/"
	install -m 0644 README.md CHANGELOG.md LICENSE "$(DESTDIR)$(PREFIX)/share/doc/qsfs/"
	install -m 0644 packaging/qsfs.toml packaging/zdb.env "$(DESTDIR)$(PREFIX)/share/doc/qsfs/examples/"

clean:
	rm -rf bin
