package server

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
	"qsfs/zdb/segfile"
)

// stats are the counters of the whole server.
type stats struct {
	clients, commands, failed, unauthorized atomic.Int64
	// TLS handshakes that failed, connections beyond the limit, wrong passwords
	handshakes, refused, denied atomic.Int64
	bytesIn, bytesOut           atomic.Int64
	gone                        traffic // of namespaces that were removed
}

func cmdPing(s *session, _ [][]byte) { s.simple("PONG") }

// cmdTime is TIME → seconds and microseconds.
func cmdTime(s *session, _ [][]byte) {
	now := time.Now()
	s.array(2)
	s.text(strconv.FormatInt(now.Unix(), 10))
	s.text(strconv.Itoa(now.Nanosecond() / 1000))
}

// An infoText is a text of "key: value" lines.
type infoText struct{ strings.Builder }

func (t *infoText) section(name string) {
	if t.Len() > 0 {
		t.WriteByte('\n')
	}
	fmt.Fprintf(t, "# %s\n", name)
}

func (t *infoText) line(key string, value any) { fmt.Fprintf(t, "%s: %v\n", key, value) }

// size writes a figure in bytes and in megabytes.
func (t *infoText) size(key string, n int64) {
	t.line(key+"_bytes", n)
	t.line(key+"_mb", fmt.Sprintf("%.2f", float64(n)/(1<<20)))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// revision is the version of the program, as the build recorded it.
var revision = func() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
		return b.Main.Version
	}
	return "unknown"
}()

// cmdInfo is INFO → a text about the server.
func cmdInfo(s *session, _ [][]byte) {
	s.publish() // this command counts too
	srv, st := s.srv, &s.srv.stats
	var t infoText
	t.section("server")
	t.line("server_name", "0-db (zdb)")
	t.line("server_revision", revision)
	t.line("engine_revision", revision)
	t.line("instance_id", srv.id)
	t.line("boot_time", srv.started.Unix())
	t.line("uptime", int64(time.Since(srv.started).Seconds()))

	t.section("clients")
	t.line("clients_lifetime", st.clients.Load())

	t.section("internals")
	t.line("sequential_key_size", 8)
	t.line("data_version", segfile.Version)
	t.line("index_version", segfile.Version)

	t.section("stats")
	t.line("commands_executed", st.commands.Load())
	t.line("commands_failed", st.failed.Load())
	t.line("commands_unauthorized", st.unauthorized.Load())
	data, index := &srv.disk.data, &srv.disk.index
	t.line("index_disk_read_failed", index.readFailed.Load())
	t.line("index_disk_write_failed", index.writeFailed.Load())
	t.line("data_disk_read_failed", data.readFailed.Load())
	t.line("data_disk_write_failed", data.writeFailed.Load())
	t.size("index_disk_read", index.read.Load())
	t.size("index_disk_write", index.written.Load())
	t.size("data_disk_read", data.read.Load())
	t.size("data_disk_write", data.written.Load())
	t.size("network_rx", st.bytesIn.Load())
	t.size("network_tx", st.bytesOut.Load())

	var total traffic
	total.add(&st.gone)
	srv.mu.RLock()
	for _, n := range srv.namespaces {
		total.add(&n.traffic)
	}
	srv.mu.RUnlock()
	t.section("traffic")
	t.line("clients_connected", srv.Connections())
	t.line("clients_refused", st.refused.Load())
	t.line("sync", syncName(srv.o.NoSync))
	t.line("commands", st.commands.Load())
	t.line("bytes_in", st.bytesIn.Load())
	t.line("bytes_out", st.bytesOut.Load())
	total.lines(&t)
	s.text(t.String())
}

func (t *traffic) add(o *traffic) {
	t.gets.Add(o.gets.Load())
	t.getBytes.Add(o.getBytes.Load())
	t.sets.Add(o.sets.Load())
	t.setBytes.Add(o.setBytes.Load())
}

func (t *traffic) lines(text *infoText) {
	text.line("gets", t.gets.Load())
	text.line("get_bytes", t.getBytes.Load())
	text.line("sets", t.sets.Load())
	text.line("set_bytes", t.setBytes.Load())
}

func syncName(none bool) string {
	if none {
		return "none"
	}
	return "always"
}

func incarnation(eng *zdb.Namespace) string {
	id := eng.Incarnation()
	return hex.EncodeToString(id[:])
}

// cmdNSInfo is NSINFO name → a text about a namespace.
func cmdNSInfo(s *session, args [][]byte) {
	if len(args[1]) > maxName {
		s.fail(errNamespaceLong)
		return
	}
	n := s.srv.lookup(string(args[1]))
	if n == nil || n.removed.Load() {
		s.fail(errNoNamespace)
		return
	}
	eng, err := n.acquire(s.srv.ctx)
	if err == nil {
		defer n.release()
		err = n.count.ready(s.srv.ctx)
	}
	if err != nil {
		s.srv.trouble("describe", n.name, err)
		s.fail(errInternal)
		return
	}
	s.text(n.describe(eng, s.admin))
}

func (n *namespace) describe(eng *zdb.Namespace, admin bool) string {
	set, stats, head := n.set.Load(), eng.Stats(), eng.Head()
	o := n.srv.o
	entries, payload := n.entries.Load(), n.payload.Load()
	index := entries*64 + n.keyBytes.Load()
	var t infoText
	t.section("namespace")
	t.line("name", n.name)
	t.line("entries", entries)
	t.line("public", yesNo(!set.Private))
	t.line("worm", yesNo(set.Worm))
	t.line("locked", yesNo(set.Locked || set.Frozen))
	t.line("password", yesNo(set.Password != nil))
	t.size("data_size", payload)
	t.line("data_limits_bytes", set.MaxSize)
	t.line("index_size_bytes", index)
	t.line("index_size_kb", fmt.Sprintf("%.2f", float64(index)/1024))
	next := head.Seq.Counter() + 1
	if set.Sequential {
		next = n.nextID.Load()
	}
	t.line("next_internal_id", fmt.Sprintf("0x%08x", bits.ReverseBytes64(next)))
	t.line("mode", modeName(set.Sequential))
	t.line("stats_index_io_errors", 0) // an index that fails is built anew and fails no command
	t.line("stats_index_io_error_last", 0)
	t.line("stats_index_faults", stats.IndexRebuilt)
	t.line("stats_data_io_errors", n.failures.Load())
	t.line("stats_data_io_error_last", n.failedAt.Load())
	t.line("stats_data_faults", n.damage.Load())
	if set.MaxSize > 0 {
		t.line("space_available", max(int64(min(set.MaxSize, 1<<62))-payload, 0))
	}
	t.size("index_disk_freespace", freeSpace(o.IndexDir))
	t.size("data_disk_freespace", freeSpace(o.DataDir))
	if admin {
		data, index := eng.Dirs()
		t.line("data_path", data)
		t.line("data_active", filepath.Join(data, head.Segment.DataName()))
		t.line("index_path", index)
		t.line("index_active", filepath.Join(index, head.Segment.IndexName()))
		t.line("data_current_id", uint32(head.Segment))
		t.line("data_current_offset", head.Offset)
	}
	t.line("incarnation", incarnation(eng))
	t.line("data_disk_used_bytes", stats.LocalBytes)
	t.line("disk_used_bytes", stats.DiskBytes)
	t.line("log_bytes", stats.LogBytes)
	t.line("log_live_bytes", max(0, stats.LogBytes-stats.DeadBytes))
	t.line("log_dead_bytes", stats.DeadBytes)
	t.line("versions_kept", stats.Versions)
	t.line("compactions", stats.CompactRuns)
	t.line("compaction_moved_bytes", stats.CopiedBytes)
	t.line("compaction_freed_bytes", stats.FreedBytes)
	t.line("writable", yesNo(eng.Err() == nil && !stats.NoSpace))
	t.line("sync", syncName(o.NoSync))
	t.line("keep_last", max(set.KeepLast, 1))
	t.line("keep_deleted", FormatAge(time.Duration(set.KeepDeleted)))
	n.traffic.lines(&t)
	return t.String()
}

// freeSpace is what an unprivileged writer may take of the file system; −1 says that it does not tell.
func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return -1
	}
	return int64(st.Bavail) * st.Bsize
}
