package server

import (
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// scrape returns the samples of /metrics by name with labels.
func (ts *testServer) scrape() (map[string]float64, string) {
	ts.t.Helper()
	rec := httptest.NewRecorder()
	ts.Metrics().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		ts.t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	all := map[string]float64{}
	for line := range strings.Lines(rec.Body.String()) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && !strings.HasPrefix(line, "#") {
			all[line[:i]], _ = strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		}
	}
	return all, rec.Body.String()
}

func TestMetrics(t *testing.T) {
	ts := start(t, func(o *Options) { o.Metrics = true })
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "NSSET", "ns", "password", "hush-ns")
	w.want("+OK", "NSSET", "ns", "maxsize", "5000000")
	w.want("-"+errDenied, "SELECT", "ns", "hush-wrong")
	w.want("+OK", "SELECT", "ns", "hush-ns")
	for i := range 10 {
		w.do("SET", fmt.Sprintf("hush-key-%d", i), "hush-value")
	}
	w.want(`"hush-value"`, "GET", "hush-key-3")
	w.want("-"+errUnsupported, "HUSH-COMMAND")
	ts.dial().want("-"+errPermission, "NSNEW", "x")
	got, text := ts.scrape()
	for name, want := range map[string]float64{
		`zdb_command_seconds_count{command="SET"}`:       10,
		`zdb_command_seconds_count{command="GET"}`:       1,
		`zdb_namespace_keys{namespace="ns"}`:             10,
		`zdb_namespace_payload_bytes{namespace="ns"}`:    100,
		`zdb_namespace_limit_bytes{namespace="ns"}`:      5000000,
		`zdb_namespace_writes_total{namespace="ns"}`:     10,
		`zdb_namespace_read_bytes_total{namespace="ns"}`: 10,
		`zdb_namespace_writable{namespace="ns"}`:         1,
		`zdb_passwords_wrong_total`:                      1,
		`zdb_commands_unknown_total`:                     1,
		`zdb_commands_unauthorized_total`:                1,
		`zdb_connections`:                                2,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", name, v, ok, want)
		}
	}
	for _, name := range []string{"zdb_fsync_seconds_count", "zdb_durable_wait_seconds_count", "process_resident_memory_bytes", "zdb_data_disk_free_bytes"} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	for _, secret := range []string{"hush", adminPassword + `"`} {
		if strings.Contains(strings.ToLower(text), secret) {
			t.Errorf("the metrics show %s", secret)
		}
	}
}

func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Metrics = true })
	const most = 3
	ts.metrics.most = most
	w := ts.adminWire()
	for i := range most + 3 {
		w.want("+OK", "NSNEW", fmt.Sprintf("n%04d", i))
	}
	last := fmt.Sprintf("n%04d", most+2)
	w.want("+OK", "SELECT", last)
	w.want(`"k"`, "SET", "k", "v")
	got, text := ts.scrape()
	if got[`zdb_namespace_keys{namespace="`+otherNamespaces+`"}`] != 1 || strings.Contains(text, last) {
		t.Errorf("the keys of the others: %v", got[`zdb_namespace_keys{namespace="`+otherNamespaces+`"}`])
	}
	if n := strings.Count(text, "zdb_namespace_keys{"); n != most+1 {
		t.Errorf("%d namespaces have figures", n)
	}
}

// INFO and NSINFO begin with the original's lines in the original's order; ours come behind.
func TestInfoLines(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "NSSET", "ns", "maxsize", "1000000")
	w.want("+OK", "SELECT", "ns")
	w.want(`"k"`, "SET", "k", "hello")
	keys := func(text string) (all []string) {
		text, _ = strconv.Unquote(text)
		for line := range strings.Lines(text) {
			if key, _, ok := strings.Cut(line, ": "); ok {
				all = append(all, key)
			} else {
				all = append(all, strings.TrimSpace(line))
			}
		}
		return all
	}
	for _, tc := range []struct{ text, want string }{
		{w.do("INFO"), `# server|server_name|server_revision|engine_revision|instance_id|boot_time|uptime||# clients|clients_lifetime||` +
			`# internals|sequential_key_size|data_version|index_version||# stats|commands_executed|commands_failed|commands_unauthorized|` +
			`index_disk_read_failed|index_disk_write_failed|data_disk_read_failed|data_disk_write_failed|index_disk_read_bytes|index_disk_read_mb|` +
			`index_disk_write_bytes|index_disk_write_mb|data_disk_read_bytes|data_disk_read_mb|data_disk_write_bytes|data_disk_write_mb|` +
			`network_rx_bytes|network_rx_mb|network_tx_bytes|network_tx_mb||# traffic|`},
		{w.do("NSINFO", "ns"), `# namespace|name|entries|public|worm|locked|password|data_size_bytes|data_size_mb|data_limits_bytes|index_size_bytes|` +
			`index_size_kb|next_internal_id|mode|stats_index_io_errors|stats_index_io_error_last|stats_index_faults|stats_data_io_errors|` +
			`stats_data_io_error_last|stats_data_faults|space_available|index_disk_freespace_bytes|index_disk_freespace_mb|` +
			`data_disk_freespace_bytes|data_disk_freespace_mb|data_path|data_active|index_path|index_active|data_current_id|data_current_offset|`},
	} {
		if got := strings.Join(keys(tc.text), "|"); !strings.HasPrefix(got, tc.want) {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
		if !strings.Contains(tc.text, `\nsync: always\n`) {
			t.Errorf("no line sync in %s", tc.text)
		}
	}
	if written := ts.disk.data.written.Load(); written == 0 {
		t.Error("no bytes written were counted")
	}
}

// What compaction did, and what of the log is live and dead, is in the metrics and in NSINFO.
func TestCompactionMetrics(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Metrics, o.NoCompaction, o.SegmentSize, o.NoSync = true, true, 512<<10, true })
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "SELECT", "ns")
	for round := range 3 {
		for i := range 40 {
			w.do("SET", fmt.Sprintf("key-%d", i), strings.Repeat(strconv.Itoa(round), 20_000))
		}
	}
	w.want("+OK", "TASK", "ns", "CHECK") // applies what was written
	eventually(t, "the check", func() bool { return strings.Contains(w.do("TASK", "ns", "STATUS"), `\"running\":false`) })
	figure := func(name string) float64 {
		t.Helper()
		all, _ := ts.scrape()
		v, ok := all["zdb_namespace_"+name+`{namespace="ns"}`]
		if !ok {
			t.Errorf("there is no %s", name)
		}
		return v
	}
	if live, dead := figure("live_bytes"), figure("dead_bytes"); live < 800_000 || live > 900_000 || dead < 1_600_000 {
		t.Errorf("%v live, %v dead", live, dead)
	}
	if figure("compactions_total") != 0 || figure("compaction_freed_bytes_total") != 0 {
		t.Error("it was compacted before it was asked for")
	}
	disk := figure("disk_bytes")
	w.want("+OK", "COMPACT", "ns", "ALL")
	settled(w, "ns")
	if runs, segments, moved, freed := figure("compactions_total"), figure("compacted_segments_total"), figure("compaction_moved_bytes_total"), figure("compaction_freed_bytes_total"); runs == 0 || segments < 3 || moved < 100_000 || freed < 1_600_000 {
		t.Errorf("%v runs, %v segments, %v bytes moved, %v freed", runs, segments, moved, freed)
	}
	if dead := figure("dead_bytes"); dead > 100_000 {
		t.Errorf("%v bytes are dead after it", dead)
	}
	if after := figure("disk_bytes"); after > disk-1_500_000 {
		t.Errorf("%v bytes on disk, %v before", after, disk)
	}
	info := w.do("NSINFO", "ns")
	for _, line := range []string{"log_live_bytes: 8", "log_dead_bytes: ", "compactions: ", "compaction_freed_bytes: "} {
		if !strings.Contains(info, `\n`+line) {
			t.Errorf("no line %s in %s", line, info)
		}
	}
}
