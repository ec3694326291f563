package zdbfs

import (
	"testing"

	"qsfs/zdbfs/internal/meta"
)

// The write buffer is counted in bytes written: the memory that holds them is not many times more, however they come.
func TestRunMemory(t *testing.T) {
	const piece = 64 << 10
	tests := []struct {
		name   string
		stride uint64
		size   int
	}{
		{"a piece in each block", meta.MaxBlob, piece},
		{"a piece behind the start of each block", meta.MaxBlob + 4096, piece},
		{"a piece across each border", meta.MaxBlob - piece/2, piece},
		{"a little more than a block, then a gap", 3 * meta.MaxBlob, meta.MaxBlob + 1},
		{"stream of pieces", piece, piece},
		{"stream of odd pieces", 5000, 5000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s runSet
			p := make([]byte, tt.size)
			for i := range uint64(256) {
				s.write(i*tt.stride, p)
			}
			if want := 256 * tt.size; s.bytes != want {
				t.Fatalf("counted %d, want %d", s.bytes, want)
			}
			held := 0
			for _, r := range s.runs {
				held += cap(r.buf)
			}
			if held > 2*(s.bytes+len(s.runs)*meta.BlobHeaderLen) {
				t.Errorf("%d bytes in %d runs hold %d", s.bytes, len(s.runs), held)
			}
		})
	}
}
