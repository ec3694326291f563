package wal

import (
	"io"

	"github.com/zeebo/blake3"

	"qsfs/zdb/segfile"
)

// indexWriter streams an index segment into a file; the first error stays.
type indexWriter struct {
	f       io.WriterAt
	off     int64
	buf     []byte
	sum     *blake3.Hasher
	records int64
	err     error
}

const indexBuffer = 256 << 10

func newIndexWriter(f io.WriterAt) *indexWriter {
	return &indexWriter{f: f, sum: blake3.New(), buf: make([]byte, 0, indexBuffer+8<<10)}
}

func (w *indexWriter) write(p []byte) {
	w.buf = append(w.buf, p...)
	w.flushFrom(indexBuffer)
}

func (w *indexWriter) record(r segfile.Record) {
	w.buf = segfile.AppendRecord(w.buf, r)
	w.records++
	w.flushFrom(indexBuffer)
}

// flushFrom writes the buffer out when it holds at least n bytes.
func (w *indexWriter) flushFrom(n int) {
	if len(w.buf) < n || w.err != nil || len(w.buf) == 0 {
		return
	}
	_, _ = w.sum.Write(w.buf)
	_, w.err = w.f.WriteAt(w.buf, w.off)
	w.off += int64(len(w.buf))
	w.buf = w.buf[:0]
}

// finish completes the footer, writes it and returns the length of the file.
func (w *indexWriter) finish(f segfile.Footer) (int64, error) {
	w.flushFrom(0)
	f.Records, f.RecordBytes = w.records, w.off-segfile.IndexHeaderSize
	f.IndexSum = [32]byte(w.sum.Sum(nil))
	tail := segfile.AppendFooter(nil, f)
	if w.err == nil {
		_, w.err = w.f.WriteAt(tail, w.off)
		w.off += int64(len(tail))
	}
	return w.off, w.err
}
