package zstor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// flights lets all who want one stripe at the same time share one fetch.
type flights struct {
	mu sync.Mutex
	m  map[flightKey]*flight
}

type flightKey struct {
	gen    record.Generation
	stripe uint32
}

type flight struct {
	done    chan struct{}
	plain   []byte
	err     error
	release func()
	users   atomic.Int64 // readers that still use plain
}

func (f *flight) leave() {
	if f.users.Add(-1) == 0 && f.release != nil {
		f.release()
	}
}

// Stripe gives the plaintext of the stripe that holds byte off of d<segment>. The caller calls
// release when it is done with the bytes.
func (s *Store) Stripe(ctx context.Context, ns string, segment uint32, off int64) (_ client.Stripe, release func(), err error) {
	if ns != nsData && ns != nsMeta {
		return client.Stripe{}, nil, fmt.Errorf("%w: no namespace %q", client.ErrBadRequest, ns)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QSFS.FetchTimeout)
	defer cancel()
	k := record.SegmentKey{Namespace: ns, Segment: segment}
	m, err := s.manifestOf(ctx, k)
	if err != nil {
		return client.Stripe{}, nil, err
	}
	if off < 0 || off >= m.DataLen {
		return client.Stripe{}, nil, fmt.Errorf("%w: byte %d of segment %s, which has %d", client.ErrBadRequest, off, segmentObject(k), m.DataLen)
	}
	stripe := uint32(off / int64(m.StripeSize))
	start, n := codec.StripeSpan(stripe, m.DataLen, int(m.StripeSize))
	f, err := s.share(ctx, m, stripe)
	if err != nil {
		s.log.Warn("cannot read a dispersed segment", "segment", segmentObject(k), "offset", off, "error", err)
		return client.Stripe{}, nil, &client.StripeError{Span: client.Span{Offset: start, Length: n}, Err: wireError(err)}
	}
	if int64(len(f.plain)) != n {
		f.leave()
		return client.Stripe{}, nil, fmt.Errorf("%w: stripe %d of %s has %d bytes, %d were expected", client.ErrDamaged, stripe, segmentObject(k), len(f.plain), n)
	}
	return client.Stripe{Offset: start, SegmentLength: m.DataLen, Data: f.plain}, f.leave, nil
}

// wireError gives transfer errors the sentinels of the socket.
func wireError(err error) error {
	switch {
	case errors.Is(err, transfer.ErrDamaged):
		return fmt.Errorf("%w: %w", client.ErrDamaged, err)
	case errors.Is(err, transfer.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", client.ErrUnavailable, err)
	}
	return err
}

// share joins the fetch of a stripe that is under way, or starts it. The fetch itself does not end
// with the caller that happened to start it.
func (s *Store) share(ctx context.Context, m *record.Manifest, stripe uint32) (*flight, error) {
	for {
		f, joined := s.join(m, stripe)
		select {
		case <-f.done:
		case <-ctx.Done():
			f.leave()
			return nil, fmt.Errorf("%w: stripe %d of %s: %w", transfer.ErrUnavailable, stripe, m.Object, ctx.Err())
		}
		if f.err == nil {
			return f, nil
		}
		err := f.err
		f.leave()
		// A fetch that somebody else began earlier may have run out of its time, not of ours.
		if !joined || !errors.Is(err, transfer.ErrUnavailable) {
			return nil, err
		}
	}
}

// join gives the fetch of a stripe, and whether it was under way already. The caller leaves it.
func (s *Store) join(m *record.Manifest, stripe uint32) (f *flight, joined bool) {
	key := flightKey{m.Generation, stripe}
	s.fetch.mu.Lock()
	defer s.fetch.mu.Unlock()
	if s.fetch.m == nil {
		s.fetch.m = map[flightKey]*flight{}
	}
	f, joined = s.fetch.m[key]
	if !joined {
		f = &flight{done: make(chan struct{})}
		f.users.Store(1) // the fetch itself
		s.fetch.m[key] = f
		s.wg.Go(func() { s.fly(f, key, m) })
	}
	f.users.Add(1)
	return f, joined
}

func (s *Store) fly(f *flight, key flightKey, m *record.Manifest) {
	ctx, cancel := context.WithTimeout(s.life, s.cfg.QSFS.FetchTimeout)
	defer cancel()
	f.plain, f.release, f.err = s.readPatiently(ctx, m, key.stripe)
	s.fetch.mu.Lock()
	delete(s.fetch.m, key)
	s.fetch.mu.Unlock()
	close(f.done)
	f.leave()
}

// readPatiently reads a stripe; while too few nodes answer it tries again, for fetch_timeout or until
// the caller's deadline.
func (s *Store) readPatiently(ctx context.Context, m *record.Manifest, stripe uint32) ([]byte, func(), error) {
	return s.readTelling(ctx, m, stripe, func(error) {})
}

// readTelling is readPatiently for callers whose user waits: waiting is told why, after each try.
func (s *Store) readTelling(ctx context.Context, m *record.Manifest, stripe uint32, waiting func(why error)) ([]byte, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QSFS.FetchTimeout)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		plain, release, err := s.mover.ReadStripe(ctx, m, stripe)
		if err == nil || !errors.Is(err, transfer.ErrUnavailable) {
			return plain, release, err
		}
		waiting(err)
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("no answer within %v: %w", s.cfg.QSFS.FetchTimeout, err)
		case <-time.After(pause):
		}
	}
}

// readBytes reads a whole small object into memory: a base or a piece.
func (s *Store) readBytes(ctx context.Context, m *record.Manifest) ([]byte, error) {
	out := make([]byte, 0, m.DataLen)
	for stripe := range m.DataStripes {
		plain, release, err := s.mover.ReadStripe(ctx, m, stripe)
		if err != nil {
			return nil, wireError(err)
		}
		out = append(out, plain...)
		release()
	}
	if int64(len(out)) != m.DataLen {
		return nil, fmt.Errorf("%w: %s has %d bytes, its manifest says %d", client.ErrDamaged, m.Object, len(out), m.DataLen)
	}
	return out, nil
}
