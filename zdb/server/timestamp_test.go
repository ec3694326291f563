package server

import (
	"testing"
)

func TestTimestamps(t *testing.T) {
	ts := start(t, nil)
	ts.dial().play([]step{
		do("-Permission denied", "SET", "k", "v", "1234567890"), do("-Permission denied", "DEL", "k", "1234567890"), do("nil", "GET", "k"),
	})
	ts.adminWire().play([]step{
		do(`"k"`, "SET", "k", "v", "1234567890"), do(":1234567890", "KEYTIME", "k"), do("nil", "SET", "k", "v", "4"), do(":1234567890", "KEYTIME", "k"),
		do(`~\[".*" \[\["k" :1 :1234567890\]\]\]`, "SCAN"), do(`[nil "1234567890" "v"]`, "HISTORY", "k"),
		do(`"k"`, "SETX", "k", "w", "0"), do(":0", "KEYTIME", "k"), do(`"k"`, "SET", "k", "x", "4294967295"), do(":4294967295", "KEYTIME", "k"),
		do("-Invalid timestamp", "SET", "k", "v", "world"), do("-Invalid timestamp", "SET", "k", "v", ""), do("-Invalid timestamp", "SET", "k", "v", "-5"),
		do("-Invalid timestamp", "SET", "k", "v", "4294967296"), do("-Invalid timestamp", "SET", "k", "v", "1.5"), do("-Unexpected arguments", "SET", "k", "v", "1", "2"),
		do("-Invalid timestamp", "DEL", "k", "world"), do("-Invalid argument", "DEL", "k", ""), do(`"x"`, "GET", "k"),
		do("+OK", "DEL", "k", "1234567891"), do("nil", "GET", "k"), do(`["k" :68 "0x00000000" :1 :1234567891 ""]`, "DATA", "RAW", "0", "88"),
		do(`"k"`, "SET", "k", "now"), do("~:1[0-9]{9}", "KEYTIME", "k"), // the time of one command does not stay for the next
	})
}
