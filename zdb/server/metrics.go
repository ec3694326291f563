package server

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"qsfs/zdb"
)

// metricNamespaces is how many namespaces have figures of their own; what the others have is summed up under the name
// otherNamespaces, which no namespace can have. Names of namespaces and of commands are the only labels that vary: no
// key, value or password is ever one.
const (
	metricNamespaces = 200
	otherNamespaces  = "/others"
)

// metrics are what /metrics shows beside the counters that the server has anyway. Nil when nobody asked for them.
type metrics struct {
	registry *prometheus.Registry
	most     int // namespaces with figures of their own
	commands map[*command]prometheus.Observer
	fsync    prometheus.Histogram
	durable  prometheus.Histogram
	troubles *prometheus.CounterVec
}

// latencies reach from 5 µs to 40 s.
var latencies = prometheus.ExponentialBuckets(5e-6, 2, 24)

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), most: metricNamespaces, commands: map[*command]prometheus.Observer{}}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "zdb_command_seconds", Buckets: latencies,
		Help: "Time to execute a command, without the wait of its reply for durability. The count is the number of commands.",
	}, []string{"command"})
	for name, c := range commands {
		m.commands[c] = seconds.WithLabelValues(name)
	}
	m.fsync = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "zdb_fsync_seconds", Help: "Time of one fsync or fdatasync of a file of the log.", Buckets: latencies,
	})
	m.durable = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "zdb_durable_wait_seconds", Help: "How long finished replies waited for what they say to be durable.", Buckets: latencies,
	})
	m.troubles = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "zdb_errors_total", Help: "What the engine or the system failed to do, by step.",
	}, []string{"step"})
	m.registry.MustRegister(seconds, m.fsync, m.durable, m.troubles,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe notes how long a command took.
func (m *metrics) observe(c *command, began time.Time) {
	m.commands[c].Observe(time.Since(began).Seconds())
}

// Metrics answers what Prometheus asks. It is there when Options.Metrics is set.
func (s *Server) Metrics() http.Handler {
	if s.metrics == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 30 * time.Second})
}

// A figure is one metric that is computed when it is asked for.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newFigure(kind prometheus.ValueType, name, help string, labels ...string) figure {
	return figure{prometheus.NewDesc(name, help, labels, nil), kind}
}

// serverFigures are of the whole server.
var serverFigures = []struct {
	figure
	of func(*Server) float64
}{
	{newFigure(prometheus.GaugeValue, "zdb_connections", "Connections."), func(s *Server) float64 { return float64(s.Connections()) }},
	{newFigure(prometheus.GaugeValue, "zdb_max_connections", "Most connections."), func(s *Server) float64 { return float64(s.o.MaxConns) }},
	{newFigure(prometheus.CounterValue, "zdb_connections_total", "Connections that were accepted."), func(s *Server) float64 { return float64(s.stats.clients.Load()) }},
	{newFigure(prometheus.CounterValue, "zdb_connections_refused_total", "Connections beyond the limit."), func(s *Server) float64 { return float64(s.stats.refused.Load()) }},
	{newFigure(prometheus.CounterValue, "zdb_tls_handshakes_failed_total", "TLS handshakes that failed."), func(s *Server) float64 { return float64(s.stats.handshakes.Load()) }},
	{newFigure(prometheus.CounterValue, "zdb_passwords_wrong_total", "Wrong passwords."), func(s *Server) float64 { return float64(s.stats.denied.Load()) }},
	{newFigure(prometheus.CounterValue, "zdb_commands_unknown_total", "Commands that do not exist."), func(s *Server) float64 { return float64(s.stats.failed.Load()) }},
	{newFigure(prometheus.CounterValue, "zdb_commands_unauthorized_total", "Commands without the right to them."), func(s *Server) float64 { return float64(s.stats.unauthorized.Load()) }},
	{newFigure(prometheus.CounterValue, "zdb_network_received_bytes_total", "Bytes from clients, TLS not counted."), func(s *Server) float64 { return float64(s.stats.bytesIn.Load()) }},
	{newFigure(prometheus.CounterValue, "zdb_network_sent_bytes_total", "Bytes to clients, TLS not counted."), func(s *Server) float64 { return float64(s.stats.bytesOut.Load()) }},
	{newFigure(prometheus.GaugeValue, "zdb_namespaces", "Namespaces."), func(s *Server) float64 { return float64(len(s.names())) }},
	{newFigure(prometheus.GaugeValue, "zdb_data_disk_free_bytes", "Free bytes of the file system of the data."), func(s *Server) float64 { return float64(freeSpace(s.o.DataDir)) }},
	{newFigure(prometheus.GaugeValue, "zdb_index_disk_free_bytes", "Free bytes of the file system of the index."), func(s *Server) float64 { return float64(freeSpace(s.o.IndexDir)) }},
}

// A sample is a namespace at the moment it is looked at.
type sample struct {
	n     *namespace
	stats zdb.Stats
	bad   bool // takes no writes because the disk is full or failed
}

// namespaceFigures are of one namespace each.
var namespaceFigures = []struct {
	figure
	of func(*sample) float64
}{
	namespaceFigure(prometheus.GaugeValue, "keys", "Live keys.", func(p *sample) float64 { return float64(p.n.entries.Load()) }),
	namespaceFigure(prometheus.GaugeValue, "payload_bytes", "Bytes of live values.", func(p *sample) float64 { return float64(p.n.payload.Load()) }),
	namespaceFigure(prometheus.GaugeValue, "limit_bytes", "maxsize; 0 is none.", func(p *sample) float64 { return float64(p.n.set.Load().MaxSize) }),
	namespaceFigure(prometheus.GaugeValue, "local_bytes", "Bytes of data and index segments.", func(p *sample) float64 { return float64(p.stats.LocalBytes) }),
	namespaceFigure(prometheus.GaugeValue, "log_bytes", "Length of the log.", func(p *sample) float64 { return float64(p.stats.LogBytes) }),
	namespaceFigure(prometheus.GaugeValue, "segments", "Segments of the log.", func(p *sample) float64 { return float64(p.stats.Segments) }),
	namespaceFigure(prometheus.GaugeValue, "overlay_bytes", "Recent entries in memory.", func(p *sample) float64 { return float64(p.stats.OverlayBytes) }),
	namespaceFigure(prometheus.GaugeValue, "unsynced_bytes", "Bytes of the log that no fsync covers.", func(p *sample) float64 { return float64(p.stats.Unsynced) }),
	namespaceFigure(prometheus.GaugeValue, "writable", "0 while writes fail because the disk is full or failed.", func(p *sample) float64 {
		if p.bad {
			return 0
		}
		return 1
	}),
	namespaceFigure(prometheus.CounterValue, "commits_total", "Batches committed.", func(p *sample) float64 { return float64(p.stats.Commits) }),
	namespaceFigure(prometheus.CounterValue, "syncs_total", "Times the log was made durable.", func(p *sample) float64 { return float64(p.stats.Syncs) }),
	namespaceFigure(prometheus.CounterValue, "index_rebuilds_total", "Times the index was built anew.", func(p *sample) float64 { return float64(p.stats.IndexRebuilt) }),
	namespaceFigure(prometheus.GaugeValue, "live_bytes", "Bytes of the log that are live, kept versions among them, as of the last apply.", func(p *sample) float64 { return float64(max(0, p.stats.LogBytes-p.stats.DeadBytes)) }),
	namespaceFigure(prometheus.GaugeValue, "dead_bytes", "Bytes of the log that compaction can free, as of the last apply.", func(p *sample) float64 { return float64(p.stats.DeadBytes) }),
	namespaceFigure(prometheus.GaugeValue, "disk_bytes", "Bytes of segments and index on disk.", func(p *sample) float64 { return float64(p.stats.DiskBytes) }),
	namespaceFigure(prometheus.GaugeValue, "kept_versions", "Superseded versions that are kept.", func(p *sample) float64 { return float64(p.stats.Versions) }),
	namespaceFigure(prometheus.CounterValue, "compactions_total", "Groups of segments that were compacted.", func(p *sample) float64 { return float64(p.stats.CompactRuns) }),
	namespaceFigure(prometheus.CounterValue, "compacted_segments_total", "Segments that compaction removed.", func(p *sample) float64 { return float64(p.stats.CompactSegments) }),
	namespaceFigure(prometheus.CounterValue, "compaction_moved_bytes_total", "Bytes of live entries that compaction wrote again.", func(p *sample) float64 { return float64(p.stats.CopiedBytes) }),
	namespaceFigure(prometheus.CounterValue, "compaction_freed_bytes_total", "Bytes of segments that compaction removed.", func(p *sample) float64 { return float64(p.stats.FreedBytes) }),
	namespaceFigure(prometheus.CounterValue, "reads_total", "Values served.", func(p *sample) float64 { return float64(p.n.gets.Load()) }),
	namespaceFigure(prometheus.CounterValue, "read_bytes_total", "Bytes of values served.", func(p *sample) float64 { return float64(p.n.getBytes.Load()) }),
	namespaceFigure(prometheus.CounterValue, "writes_total", "Values taken.", func(p *sample) float64 { return float64(p.n.sets.Load()) }),
	namespaceFigure(prometheus.CounterValue, "written_bytes_total", "Bytes of values taken.", func(p *sample) float64 { return float64(p.n.setBytes.Load()) }),
	namespaceFigure(prometheus.CounterValue, "failures_total", "Commands that the engine failed.", func(p *sample) float64 { return float64(p.n.failures.Load()) }),
}

func namespaceFigure(kind prometheus.ValueType, name, help string, of func(*sample) float64) struct {
	figure
	of func(*sample) float64
} {
	return struct {
		figure
		of func(*sample) float64
	}{newFigure(kind, "zdb_namespace_"+name, help, "namespace"), of}
}

// collector gathers the figures; see prometheus.Collector.
type collector struct{ s *Server }

func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range serverFigures {
		out <- f.desc
	}
	for _, f := range namespaceFigures {
		out <- f.desc
	}
}

func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, f := range serverFigures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(c.s))
	}
	samples := c.s.samples()
	for _, f := range namespaceFigures {
		var others float64
		for i := range samples {
			v := f.of(&samples[i])
			if i < c.s.metrics.most {
				out <- prometheus.MustNewConstMetric(f.desc, f.kind, v, samples[i].n.name)
			} else {
				others += v
			}
		}
		if len(samples) > c.s.metrics.most {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, others, otherNamespaces)
		}
	}
}

// samples looks at all namespaces that are open, in the order of their names.
func (s *Server) samples() []sample {
	s.mu.RLock()
	all := make([]*namespace, 0, len(s.namespaces))
	for _, n := range s.namespaces {
		all = append(all, n)
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b *namespace) int { return cmp.Compare(a.name, b.name) })
	samples := make([]sample, 0, len(all))
	for _, n := range all {
		n.life.RLock()
		if eng := n.eng.Load(); eng != nil {
			st := eng.Stats()
			samples = append(samples, sample{n: n, stats: st, bad: eng.Err() != nil || st.NoSpace})
		}
		n.life.RUnlock()
	}
	return samples
}
