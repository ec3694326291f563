package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"qsfs/zdb/segfile"
)

// Find looks in [from, end) for the first valid batch of the segment at any
// offset. It returns -1 when there is none.
func Find(r io.ReaderAt, id segfile.ID, inc segfile.Incarnation, from, end int64) (int64, error) {
	buf := make([]byte, readAhead)
	for base := from; base < end; {
		p := buf[:min(int64(len(buf)), end-base)]
		got, err := r.ReadAt(p, base)
		if err != nil && !errors.Is(err, io.EOF) {
			return -1, fmt.Errorf("scan at %d: %w", base, err)
		}
		p = p[:got]
		for at := 0; ; at++ {
			next := bytes.Index(p[at:], []byte(magic))
			if next < 0 {
				break
			}
			at += next
			if ok, err := valid(r, id, inc, base+int64(at), end); err != nil {
				return -1, err
			} else if ok {
				return base + int64(at), nil
			}
		}
		if int64(got) < int64(len(magic)) || err != nil {
			return -1, nil
		}
		base += int64(got) - int64(len(magic)) + 1
	}
	return -1, nil
}

func valid(r io.ReaderAt, id segfile.ID, inc segfile.Incarnation, off, end int64) (bool, error) {
	head := make([]byte, HeaderSize)
	if got, err := r.ReadAt(head, off); err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("scan at %d: %w", off, err)
	} else if _, err := ParseHeader(head[:got], id, inc, off); err != nil {
		return false, nil
	}
	// The header checks: worth reading the whole batch.
	one := NewReader(r, id, inc, off, end)
	_, err := one.Next()
	if err != nil && !errors.Is(err, ErrBad) {
		return false, err
	}
	return err == nil, nil
}
