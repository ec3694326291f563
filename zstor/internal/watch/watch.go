// Package watch tells which segments are sealed in a state directory and wakes its user when
// there may be a new one.
//
// The files are the queue: a segment is sealed if and only if i<N> exists, and dispersed if and
// only if a valid r<N> does. fsnotify only makes it quick; a rescan covers what it missed.
package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Sealed lists the numbers of the sealed segments of a namespace, ascending. A namespace that
// does not exist yet has none.
func Sealed(state, ns string) ([]uint32, error) {
	return numbered(filepath.Join(state, "index", ns), 'i')
}

// Receipts lists the numbers for which r<N> exists, valid or not, ascending.
func Receipts(state, ns string) ([]uint32, error) {
	return numbered(filepath.Join(state, "data", ns), 'r')
}

// Local lists the numbers for which d<N> exists, ascending.
func Local(state, ns string) ([]uint32, error) {
	return numbered(filepath.Join(state, "data", ns), 'd')
}

func numbered(dir string, prefix byte) ([]uint32, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var out []uint32
	for _, e := range entries {
		if n, ok := number(e.Name(), prefix); ok && e.Type().IsRegular() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// number reads "i17" as 17. Only the canonical spelling counts: "i017" is some other file.
func number(name string, prefix byte) (uint32, bool) {
	if len(name) < 2 || name[0] != prefix {
		return 0, false
	}
	n, err := strconv.ParseUint(name[1:], 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != name[1:] {
		return 0, false
	}
	return uint32(n), true
}

// Watcher wakes its user when a segment may have been sealed. Use New.
type Watcher struct {
	state string
	names []string
	every time.Duration
	log   *slog.Logger
	fsn   *fsnotify.Watcher
	wake  chan struct{}
	stop  chan struct{}
	once  sync.Once
	done  chan struct{}
}

// New watches the index directories of the namespaces. They need not exist yet. Without inotify
// (limits reached) it goes on with rescans alone and says so.
func New(state string, namespaces []string, rescan time.Duration, log *slog.Logger) *Watcher {
	w := &Watcher{
		state: state, names: namespaces, every: rescan, log: log,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	fsn, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("watching by rescan only", "error", err)
	} else {
		w.fsn = fsn
	}
	go w.run()
	return w
}

// C delivers a wake-up: after a seal, and at each rescan.
func (w *Watcher) C() <-chan struct{} { return w.wake }

// Close stops watching.
func (w *Watcher) Close() error {
	w.once.Do(func() { close(w.stop) })
	<-w.done
	if w.fsn != nil {
		return w.fsn.Close()
	}
	return nil
}

func (w *Watcher) run() {
	defer close(w.done)
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	var events chan fsnotify.Event
	var errs chan error
	if w.fsn != nil {
		events, errs = w.fsn.Events, w.fsn.Errors
	}
	w.arm()
	w.kick()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
			w.arm()
			w.kick()
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			if filepath.Dir(e.Name) != filepath.Join(w.state, "index") {
				if _, sealed := number(filepath.Base(e.Name), 'i'); sealed && e.Has(fsnotify.Create) {
					w.kick()
				}
				continue
			}
			// A namespace directory appeared.
			w.arm()
			w.kick()
		case err, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			w.log.Warn("watch lost events, rescanning", "error", err)
			w.kick()
		}
	}
}

// arm adds what can be watched; adding again is harmless. The parents are watched so that a
// namespace made later is seen.
func (w *Watcher) arm() {
	if w.fsn == nil {
		return
	}
	index := filepath.Join(w.state, "index")
	dirs := []string{index}
	for _, ns := range w.names {
		dirs = append(dirs, filepath.Join(index, ns))
	}
	for _, d := range dirs {
		if err := w.fsn.Add(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.log.Debug("cannot watch", "dir", d, "error", err)
		}
	}
}

// Kick wakes the user of C.
func (w *Watcher) Kick() { w.kick() }

func (w *Watcher) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
