package service

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
)

const (
	// unmountPatience is how long a mount with open files is asked to end before it is detached.
	unmountPatience = 5 * time.Second
	// syncPatience is how long the kernel may take to begin writing what it holds of open files.
	syncPatience = 5 * time.Second
	// drainPatience is how long a detached mount may take to be closed by its last user.
	drainPatience = 15 * time.Second
	// shipPatience is how long a stop waits for nodes that make no progress, downPatience for a zstor
	// that does not answer.
	shipPatience = 15 * time.Second
	downPatience = 5 * time.Second
)

// Stop implements control.Service.
func (s *Service) Stop() { s.stopOnce.Do(func() { close(s.stopping) }) }

// stop ends the mount, makes everything durable, ships what time allows, and closes. What could not
// be shipped stays on the local disk and is shipped after the next start; that is no error.
func (s *Service) stop() error {
	ctx := context.Background()
	s.opt.Notify("STOPPING=1\nSTATUS=unmounting")
	s.unmount()
	s.pressure.close()
	s.cancel()
	s.loops.Wait()
	s.link.stop()
	defer s.stopWatchdog()
	s.opt.Notify("STATUS=writing to the local disk")
	syncErr := s.link.sync(ctx)
	if syncErr != nil {
		syncErr = fmt.Errorf("final sync: %w", syncErr)
	} else {
		s.shipRest(ctx)
		s.dispersed = !s.link.isStopped() && s.link.uncovered() == 0
	}
	s.opt.Notify("STATUS=closing")
	err := errors.Join(syncErr, s.close(ctx))
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}

// unmount ends the mount: politely, then out of everybody's sight, then by force. All that the kernel
// holds of files that are closed has been written when the connection has ended.
func (s *Service) unmount() {
	if s.awaitUnmount(s.opt.patience.unmount, s.mount.Unmount) {
		return
	}
	s.log.Warn("the mount is still in use, by open files or in another mount namespace: taking it out of the tree and waiting for its users",
		"dir", s.mount.Dir(), "patience", s.opt.patience.drain)
	// The dirty pages of open files are not written by detaching. sync(2) does not wait for this kind
	// of filesystem, but it begins.
	synced := make(chan struct{})
	go func() { unix.Sync(); close(synced) }()
	select {
	case <-synced:
	case <-time.After(syncPatience):
	}
	if err := s.mount.Detach(); err != nil {
		s.log.Warn("the mount cannot be detached", "err", err)
	}
	if s.awaitUnmount(s.opt.patience.drain, func() error { return nil }) {
		return
	}
	s.log.Warn("the mount is still in use: ending it, its users will see ENOTCONN", "dir", s.mount.Dir())
	if err := s.mount.Abort(); err != nil {
		// The kernel ends it when this process does.
		s.log.Error("the mount does not end", "err", err)
	}
}

// awaitUnmount tries again and again, for as long as patience lasts.
func (s *Service) awaitUnmount(patience time.Duration, try func() error) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		err := try()
		s.extend()
		select {
		case <-s.mount.Done():
			return true
		case <-time.After(100 * time.Millisecond):
		}
		if err != nil && !errors.Is(err, unix.EBUSY) {
			s.log.Warn("unmount failed", "err", err)
			return false
		}
	}
	return false
}

// extend asks the service manager for more time to stop.
func (s *Service) extend() { s.opt.Notify("EXTEND_TIMEOUT_USEC=30000000") }

// shipRest brings the rest to the nodes, as long as it gets less.
func (s *Service) shipRest(ctx context.Context) {
	if s.link.isStopped() {
		s.log.Warn("nothing is shipped", "reason", s.link.state().reason)
		return
	}
	if s.link.uncovered() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.StopTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := s.link.ship(ctx)
		done <- err
	}()
	best, since := int64(math.MaxInt64), time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			s.shipped(err)
			return
		case <-tick.C:
		}
		now, answers := s.pending(ctx)
		if now < best {
			best, since = now, time.Now()
		}
		patience := shipPatience
		if !answers {
			patience = downPatience
		}
		if time.Since(since) > patience {
			cancel() // done will tell
			continue
		}
		s.extend()
		s.opt.Notify(fmt.Sprintf("STATUS=dispersing what is left: %s to go", control.Bytes(now)))
	}
}

// pending is what zstor has still to send, or what we know ourselves if it does not answer.
func (s *Service) pending(ctx context.Context) (bytes int64, answers bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := s.zstor.Status(ctx)
	if err == nil && st.Pending.Bytes > 0 {
		return st.Pending.Bytes, true
	}
	return s.link.uncovered(), err == nil
}

func (s *Service) shipped(err error) {
	if err == nil {
		s.log.Info("everything is dispersed")
		return
	}
	s.log.Warn("not everything is dispersed; it is safe on the local disk and will be shipped after the next start",
		"bytes", s.link.uncovered(), "reason", err, "code", int(exit.Of(err)))
}
