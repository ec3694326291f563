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

.PHONY: all build run demo test test-long crash-long model-long test-tools lint bench fuzz fuzz-short fuzz-cover install clean

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

# The crash loops of the engine, 500 kills and 50 power cuts: about ten minutes.
crash-long: test-tools
	QSFS_LONG=1 $(GO) test -count=1 -v -timeout 2h ./test/engine

# The model test of the engine for as long as wanted. QSFS_SEED= repeats what it reports.
MODELTIME ?= 1h
model-long:
	QSFS_MODEL_TIME=$(MODELTIME) $(GO) test -count=1 -v -timeout 0 -run '^TestRandom$$' ./zdb

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
	$(GO) run ./bench/zdb -ours bin/zdb -quick

# Each fuzz target in turn.
fuzz:
	@GO="$(GO)" sh test/fuzz.sh $(FUZZTIME)

fuzz-short:
	$(MAKE) fuzz FUZZTIME=10s

# What the seeds alone cover of each decoder. Left out are the functions that only open a file or make a decoder.
DECODER_PACKAGES := zdb/internal/batch zdb/internal/index zdb/segfile zdb/resp zdbfs/internal/cache zdbfs/internal/meta zstor/config \
  zstor/internal/codec zstor/internal/receipt zstor/internal/record

fuzz-cover:
	@set -e; out=$$(mktemp); trap 'rm -f "$$out"' EXIT; for p in $(DECODER_PACKAGES); do \
	  $(GO) test -count=1 -run '^Fuzz' -coverprofile="$$out" "./$$p" >/dev/null || { echo "$$p: the seeds fail: go test -run ^Fuzz ./$$p" >&2; exit 1; }; \
	  $(GO) tool cover -func="$$out" | awk ' \
	    { at = $$1; sub(/:[0-9]+:$$/, "", at); sub(/^[^\/]*\//, "", at) } \
	    at ~ /(footer.go|receipt.go|codec.go|load.go)$$/ && $$2 ~ /^(ReadFooter|Read|Open|readFault)$$/ { next } \
	    at ~ /internal\/(index|cache)\// && at !~ /(entry|file).go$$/ { next } \
	    $$2 ~ /^([Pp]arse|[Dd]ecode|[Oo]pen|Read|read|Next$$|Find$$|valid$$|split$$|value$$|line$$|length$$|bulk$$|array$$|bind)/ { \
	      printf "%-40s %-20s %6s%s\n", at, $$2, $$3, ($$3+0 > 80 ? "" : "  too little"); low += ($$3+0 <= 80) } \
	    END { exit low > 0 }' || bad=1; \
	done; test -z "$$bad"

install: build
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(PREFIX)/share/doc/qsfs/examples"
	install -d -m 0700 "$(DESTDIR)/etc/qsfs" "$(DESTDIR)/var/lib/qsfs"
	install -m 0755 $(addprefix bin/,$(PROGRAMS)) "$(DESTDIR)$(PREFIX)/bin/"
	install -m 0644 systemd/*.service systemd/*.target "$(DESTDIR)$(UNITDIR)/"
	install -m 0644 README.md CHANGELOG.md LICENSE "$(DESTDIR)$(PREFIX)/share/doc/qsfs/"
	install -m 0644 packaging/qsfs.toml packaging/zdb.env "$(DESTDIR)$(PREFIX)/share/doc/qsfs/examples/"

clean:
	rm -rf bin
