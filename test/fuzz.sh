#!/bin/sh
# Runs each fuzz target in turn for the time $1 ("2m"); `go test` fuzzes one target of one package at a time.
set -u
time=$1
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=""
for file in $(grep -rEl '^func Fuzz[A-Za-z0-9_]*\(' --include='*_test.go' . | sort); do
	dir=$(dirname "$file")
	for target in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$file"); do
		echo "== $dir $target"
		${GO:-go} test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" >"$out" 2>&1
		code=$?
		tail -n 3 "$out"
		# At the end of the time the fuzzing engine sometimes reports its own deadline as a failure.
		if [ $code -ne 0 ] && { grep -q 'Failing input written' "$out" || ! grep -q '^    context deadline exceeded$' "$out"; }; then
			cat "$out"
			failed="$failed $target"
		fi
	done
done
if [ -n "$failed" ]; then
	echo "failed:$failed" >&2
	exit 1
fi
