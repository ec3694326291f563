package zdbfs

import (
	"sort"

	"qsfs/zdbfs/internal/meta"
)

// run is written data in memory. It lies within one block of meta.MaxBlob bytes of the file, and has room for the
// blob's header in front, so that it becomes a blob without a copy.
type run struct {
	off uint64
	buf []byte // meta.BlobHeaderLen bytes of room, then the content
}

func (r *run) data() []byte { return r.buf[meta.BlobHeaderLen:] }
func (r *run) end() uint64  { return r.off + uint64(len(r.buf)-meta.BlobHeaderLen) }

// full says whether a whole block is there: nothing can be added.
func (r *run) full() bool { return len(r.buf)-meta.BlobHeaderLen == meta.MaxBlob }

// add appends p. The room at most doubles, so that memory is bounded by what was written, and ends at a whole block.
func (r *run) add(p []byte) {
	if need := len(r.buf) + len(p); need > cap(r.buf) {
		buf := make([]byte, len(r.buf), min(max(need, 2*cap(r.buf)), meta.BlobHeaderLen+meta.MaxBlob))
		copy(buf, r.buf)
		r.buf = buf
	}
	r.buf = append(r.buf, p...)
}

// runSet holds runs in order; they do not overlap, and two that touch lie in different blocks.
type runSet struct {
	runs  []run
	bytes int
}

func (s *runSet) empty() bool { return len(s.runs) == 0 }

// after returns the index of the first run that ends above off.
func (s *runSet) after(off uint64) int {
	return sort.Search(len(s.runs), func(i int) bool { return s.runs[i].end() > off })
}

// write copies p to off, over what is there.
func (s *runSet) write(off uint64, p []byte) {
	for len(p) > 0 {
		n := min(meta.MaxBlob-off%meta.MaxBlob, uint64(len(p)))
		s.writeBlock(off, p[:n])
		off, p = off+n, p[n:]
	}
}

func (s *runSet) writeBlock(off uint64, p []byte) {
	end := off + uint64(len(p))
	block := off / meta.MaxBlob
	i := s.after(off)
	if i > 0 && s.runs[i-1].end() == off && s.runs[i-1].off/meta.MaxBlob == block {
		i-- // appended to
	}
	if i < len(s.runs) && s.runs[i].off <= off {
		r := &s.runs[i]
		n := copy(r.data()[off-r.off:], p)
		s.bytes += len(p) - n
		r.add(p[n:])
	} else {
		size := meta.BlobHeaderLen + len(p)
		if i > 0 && s.runs[i-1].end() == off && s.runs[i-1].full() {
			size = meta.BlobHeaderLen + meta.MaxBlob // a stream goes on
		}
		r := run{off: off, buf: make([]byte, meta.BlobHeaderLen, size)}
		r.buf = append(r.buf, p...)
		s.bytes += len(p)
		s.runs = append(s.runs, run{})
		copy(s.runs[i+1:], s.runs[i:])
		s.runs[i] = r
	}
	// Swallow those behind that p covers or touches.
	r := &s.runs[i]
	j := i + 1
	for ; j < len(s.runs); j++ {
		next := &s.runs[j]
		if next.off > r.end() || next.off/meta.MaxBlob != block {
			break
		}
		if next.end() > end && next.end() > r.end() {
			tail := next.data()[r.end()-next.off:]
			s.bytes += len(tail)
			r.add(tail)
		}
		s.bytes -= len(next.data())
	}
	s.remove(i+1, j)
}

func (s *runSet) remove(i, j int) {
	if i == j {
		return
	}
	n := copy(s.runs[i:], s.runs[j:])
	clear(s.runs[i+n:])
	s.runs = s.runs[:i+n]
}

// cut removes the bytes from a to z and returns how many there were.
func (s *runSet) cut(a, z uint64) int {
	before := s.bytes
	var out []run
	for _, r := range s.runs {
		if r.end() <= a || r.off >= z {
			out = append(out, r)
			continue
		}
		s.bytes -= len(r.data())
		if r.off < a {
			left := run{off: r.off, buf: r.buf[: meta.BlobHeaderLen+a-r.off : meta.BlobHeaderLen+a-r.off]}
			out = append(out, left)
			s.bytes += len(left.data())
		}
		if r.end() > z {
			right := run{off: z, buf: make([]byte, meta.BlobHeaderLen, meta.BlobHeaderLen+r.end()-z)}
			right.buf = append(right.buf, r.data()[z-r.off:]...)
			out = append(out, right)
			s.bytes += len(right.data())
		}
	}
	s.runs = out
	return before - s.bytes
}

// take moves all runs to a set of their own.
func (s *runSet) take() runSet {
	out := *s
	*s = runSet{}
	return out
}

// takeFull moves the full runs to a set of their own, and with them those that would become a hole: the others between
// stored, the end of what the file has in rows, and the last full one.
func (s *runSet) takeFull(stored uint64) runSet {
	var top uint64
	for _, r := range s.runs {
		if r.full() {
			top = r.end()
		}
	}
	var out, rest runSet
	for _, r := range s.runs {
		to := &rest
		if r.full() || r.end() > stored && r.end() <= top {
			to = &out
		}
		to.runs = append(to.runs, r)
		to.bytes += len(r.data())
	}
	*s = rest
	return out
}

// under puts back older runs that a failed flush had taken: where both have bytes, those of s stay.
func (s *runSet) under(older runSet) {
	newer := *s
	*s = older
	for _, r := range newer.runs {
		s.write(r.off, r.data())
	}
}

// gap is a part of a read that is still to be found.
type gap struct {
	off uint64
	p   []byte
}

// fill copies what s has of the gaps and returns what remains.
func (s *runSet) fill(gaps []gap) []gap {
	if s.empty() {
		return gaps
	}
	var out []gap
	for _, g := range gaps {
		for i := s.after(g.off); i < len(s.runs) && len(g.p) > 0; i++ {
			r := &s.runs[i]
			if r.off >= g.off+uint64(len(g.p)) {
				break
			}
			if r.off > g.off {
				n := r.off - g.off
				out = append(out, gap{g.off, g.p[:n]})
				g.off, g.p = r.off, g.p[n:]
			}
			n := copy(g.p, r.data()[g.off-r.off:])
			g.off, g.p = g.off+uint64(n), g.p[n:]
		}
		if len(g.p) > 0 {
			out = append(out, g)
		}
	}
	return out
}
