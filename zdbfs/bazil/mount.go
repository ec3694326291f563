package bazil

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"bazil.org/fuse"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"qsfs/zdbfs"
)

// FSName is the source that a mount shows; its type is fuse.qsfs.
const FSName = "qsfs"

// Options of a mount. Zero values mean the defaults.
type Options struct {
	// EntryTimeout, AttrTimeout and NegativeTimeout are how long the kernel may believe what it was
	// told without asking again. One mount owns the filesystem, so the default is a day.
	EntryTimeout, AttrTimeout, NegativeTimeout time.Duration
	// ReadAhead is how far the kernel reads ahead of a sequential reader, in bytes (1 MiB: one
	// stripe of the usual policy).
	ReadAhead int64
	// MaxDirty bounds the dirty bytes that the kernel holds for this mount (64 MiB): what it has
	// accepted and this process has not seen yet.
	MaxDirty int64
	// MaxBackground is how many requests the kernel keeps in flight for readahead and writeback
	// (1024); it calls the mount congested at half of it. Twice what MaxDirty makes at 128 KiB each: writes
	// that wait for room do not take the places of reads.
	MaxBackground int
	// MaxRequests bounds the requests in work (4096); beyond it the kernel keeps them.
	MaxRequests int
	// ReadMemory bounds the bytes of the answers that reads wait for (64 MiB); a read beyond it
	// waits without holding memory.
	ReadMemory int64
	// DirectWrites, when it answers true, makes files that are opened for writing only bypass the
	// page cache, so that a writer hears of a full filesystem at once. It is asked at each open.
	DirectWrites func() bool
	// RemoteSync, if set, is what an fsync waits for after the local one: until the nodes have
	// everything. Its failure becomes EIO.
	RemoteSync func(context.Context) error
	// Log receives what a user should know; nil discards.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration) {
		if *d == 0 {
			*d = 24 * time.Hour
		}
	}
	def(&o.EntryTimeout)
	def(&o.AttrTimeout)
	def(&o.NegativeTimeout)
	if o.ReadAhead == 0 {
		o.ReadAhead = 1 << 20
	}
	if o.MaxDirty == 0 {
		o.MaxDirty = 64 << 20
	}
	if o.MaxBackground == 0 {
		o.MaxBackground = 1024
	}
	if o.MaxRequests == 0 {
		o.MaxRequests = 4096
	}
	if o.ReadMemory == 0 {
		o.ReadMemory = 64 << 20
	}
	if o.DirectWrites == nil {
		o.DirectWrites = func() bool { return false }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Mount is a filesystem at a mount point.
type Mount struct {
	dir    string
	device string
	s      *server

	closeOnce sync.Once
	closeErr  error
}

// New mounts fs at dir, which PrepareMountPoint has approved, and serves it until it is unmounted.
func New(fs *zdbfs.FS, dir string, o Options) (*Mount, error) {
	o = o.withDefaults()
	conn, dev, err := connect(dir, o)
	if err != nil {
		return nil, err
	}
	s := &server{
		fs: fs, conn: conn, dev: dev, opt: o, log: o.Log,
		reads:      semaphore.NewWeighted(o.ReadMemory),
		interrupts: newInterrupts(),
		ended:      make(chan struct{}),
	}
	s.start()
	m := &Mount{dir: dir, s: s}
	entry, err := findMount(dir)
	if err != nil || entry == nil {
		err = errors.Join(fmt.Errorf("the mount at %s does not show up: %w", dir, os.ErrNotExist), err, m.Abort())
		if m.ended(0) {
			err = errors.Join(err, m.Close())
		}
		return nil, err
	}
	m.device = entry.device
	for _, err := range tuneBDI(entry.device, o) {
		o.Log.Warn("a kernel setting was not made", "err", err)
	}
	return m, nil
}

// connectMu makes the search for the new connection's descriptor unambiguous.
var connectMu sync.Mutex

// connect mounts and gives the connection with a descriptor of our own for it. The library does not
// hand its own out; it is the one on /dev/fuse that was not there before.
func connect(dir string, o Options) (*fuse.Conn, int, error) {
	connectMu.Lock()
	defer connectMu.Unlock()
	before, err := fuseDescriptors()
	if err != nil {
		return nil, -1, err
	}
	conn, err := fuse.Mount(dir,
		fuse.FSName(FSName), fuse.Subtype("qsfs"),
		fuse.AllowOther(), fuse.DefaultPermissions(), fuse.AllowSUID(), fuse.AllowDev(),
		fuse.AsyncRead(), fuse.WritebackCache(), fuse.CacheSymlinks(),
		fuse.ExplicitInvalidateData(), fuse.HandleKillPriv(),
		fuse.MaxReadahead(uint32(o.ReadAhead)),
		fuse.MaxBackground(uint16(o.MaxBackground)),
		fuse.CongestionThreshold(uint16(o.MaxBackground/2)),
	)
	if err != nil {
		return nil, -1, fmt.Errorf("mount %s: %w", dir, err)
	}
	undo := func(err error) (*fuse.Conn, int, error) {
		return nil, -1, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH), conn.Close())
	}
	after, err := fuseDescriptors()
	if err != nil {
		return undo(err)
	}
	for fd := range after {
		if before[fd] {
			continue
		}
		dev, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return undo(fmt.Errorf("duplicate the descriptor of the mount: %w", err))
		}
		return conn, dev, nil
	}
	return undo(errors.New("the descriptor of the mount was not found in /proc/self/fd"))
}

func fuseDescriptors() (map[int]bool, error) {
	const dir = "/proc/self/fd"
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := make(map[int]bool)
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil {
			continue
		}
		// A descriptor may be closed by now; it is not the one that we look for.
		if target, err := os.Readlink(filepath.Join(dir, n.Name())); err == nil && target == "/dev/fuse" {
			out[fd] = true
		}
	}
	return out, nil
}

// Dir is the mount point.
func (m *Mount) Dir() string { return m.dir }

// Device is the mount's device number as "major:minor".
func (m *Mount) Device() string { return m.device }

// Done is closed when the kernel has ended the connection: after an unmount, when the last file is
// closed. All data that the kernel held has been written by then.
func (m *Mount) Done() <-chan struct{} { return m.s.ended }

// Err says why the connection ended; nil for an unmount. It is valid after Done.
func (m *Mount) Err() error { return m.s.endErr }

// SetReadOnly refuses every change from now on with EROFS, also of files that are open and of what
// the kernel still holds. There is no way back but a new mount.
func (m *Mount) SetReadOnly() { m.s.readOnly.Store(true) }

// Unmount asks the kernel to unmount. It fails with EBUSY while files are open; a mount that is
// gone already is fine.
func (m *Mount) Unmount() error { return m.unmount(0) }

// Detach takes the mount out of the tree. Files that are open stay usable until they are closed.
func (m *Mount) Detach() error { return m.unmount(unix.MNT_DETACH) }

// Abort ends the connection whatever is open and whoever else sees the mount: its users get ENOTCONN,
// and what only the kernel held is lost. It is for mounts that do not end in time.
func (m *Mount) Abort() error {
	// While it is in our tree, the kernel aborts the connection first and may refuse the unmount after.
	_ = m.unmount(unix.MNT_FORCE)
	_ = m.unmount(unix.MNT_DETACH)
	if m.ended(abortPatience) {
		return nil
	}
	// It lives on in another mount namespace, or in open files.
	err := abortConnection(m.device)
	if m.ended(abortPatience) {
		return nil
	}
	return fmt.Errorf("abort the connection of %s: %w", m.dir, errors.Join(err, os.ErrDeadlineExceeded))
}

// abortPatience is how long the end of an aborted connection may take to reach us.
const abortPatience = 2 * time.Second

// ended waits for the end of the connection.
func (m *Mount) ended(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-m.Done():
		return true
	case <-timer.C:
		return false
	}
}

func (m *Mount) unmount(flags int) error {
	select {
	case <-m.Done():
		return nil
	default:
	}
	if entry, err := findMount(m.dir); err == nil && (entry == nil || m.device != "" && entry.device != m.device) {
		return nil // detached, or somebody else's mount
	}
	if err := unix.Unmount(m.dir, flags); err != nil {
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	return nil
}

// Close waits for the requests in work and frees the connection. The mount must have ended.
func (m *Mount) Close() error {
	m.closeOnce.Do(func() {
		<-m.Done()
		m.s.wg.Wait()
		m.closeErr = errors.Join(unix.Close(m.s.dev), m.s.conn.Close())
	})
	return m.closeErr
}
