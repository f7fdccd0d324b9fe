package front

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/aptmesh/aptmesh/proto"
)

// metrics counts what the front does. It looks each child of its vectors up once,
// because a look-up by labels costs more than an answer from memory.
type metrics struct {
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	wait     *prometheus.HistogramVec
	aborted  *prometheus.CounterVec
	tunnels  *prometheus.CounterVec
	tunneled prometheus.Counter
	lost     prometheus.Counter
	stale    *prometheus.CounterVec

	refusedClients *prometheus.CounterVec
	refusedConns   prometheus.Counter
	throttled      prometheus.Counter

	inFlight    atomic.Int64
	conns       atomic.Int64
	openTunnels atomic.Int64

	byAnswer [len(codes) + 1][tierCount][kindCount]atomic.Pointer[prometheus.Counter]
	kinds    [kindOther]atomic.Pointer[string]
	byTier   [tierCount]struct {
		bytes prometheus.Counter
		wait  prometheus.Observer
	}
	gauges []prometheus.Collector
}

// codes are the statuses that the front answers with; any other is counted as "other".
var codes = [...]int{200, 206, 304, 400, 403, 404, 405, 406, 412, 416, 499, 500, 503, 508}

var codeNames = [len(codes) + 1]string{"200", "206", "304", "400", "403", "404", "405", "406", "412", "416", "499", "500", "503", "508", "other"}

var tiers = [...]proto.Tier{proto.TierMemory, proto.TierDisk, proto.TierPeer, proto.TierUpstream}

const (
	tierCount = len(tiers) + 1 // and none
	kindCount = 24             // words that formats have for kinds of files, and two more
	kindNone  = kindCount - 1  // of requests that name no file
	kindOther = kindCount - 2  // of those that came when the table was full
)

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aptmesh_front_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests: counter("requests_total", "Requests answered, by status, tier of the answer and kind of file.", "code", "tier", "kind"),
		bytes:    counter("sent_bytes_total", "Bytes of bodies sent to clients, by tier.", "tier"),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "aptmesh_front_first_byte_seconds",
			Help:    "Time from the request to the head of its answer, by tier.",
			Buckets: []float64{.0001, .0005, .002, .01, .05, .1, .3, 1, 3, 10, 30},
		}, []string{"tier"}),
		aborted: counter("aborted_total", "Answers that were cut off or never begun, by reason.", "reason"),
		tunnels: counter("tunnels_total", "CONNECT requests, by result.", "result"),
		tunneled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aptmesh_front_tunnel_bytes_total", Help: "Bytes passed through CONNECT tunnels, both ways."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aptmesh_front_access_log_lost_total", Help: "Access log lines dropped because the log could not be written fast enough."}),
		stale:          counter("stale_total", "Answers that may be older than upstream's, because it cannot be asked, or past Valid-Until; by archive.", "archive"),
		refusedClients: counter("refused_clients_total", "Requests of clients that a list of networks keeps out, by its configuration key.", "key"),
		refusedConns: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aptmesh_front_refused_connections_total", Help: "Connections over the bound of their client (clients.connections)."}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aptmesh_front_throttled_seconds_total", Help: "Time for which answers were held back by the rate of their client (clients.rate)."}),
	}
	for i := range tierCount {
		m.byTier[i].bytes = m.bytes.WithLabelValues(tierName(i))
		m.byTier[i].wait = m.wait.WithLabelValues(tierName(i))
	}
	gauge := func(name, help string, value *atomic.Int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aptmesh_front_" + name, Help: help},
			func() float64 { return float64(value.Load()) })
	}
	m.gauges = []prometheus.Collector{
		gauge("in_flight", "Requests being answered.", &m.inFlight),
		gauge("connections", "Open client connections, without tunnels.", &m.conns),
		gauge("tunnels", "Open CONNECT tunnels.", &m.openTunnels),
	}
	return m
}

// known makes the series of alarms that there can be: increase() misses the first event of a series
// that begins with it.
func (m *metrics) known(r *rules) {
	for archive := range r.formats {
		m.stale.WithLabelValues(archive)
	}
	for _, list := range []string{"allow", "deny"} {
		m.refusedClients.WithLabelValues("clients." + list)
		for _, g := range r.guards {
			m.refusedClients.WithLabelValues(g.key + "." + list)
		}
	}
}

// Collectors returns the metrics of the front, for the caller to register.
func (f *Front) Collectors() []prometheus.Collector {
	m := f.metrics
	return append([]prometheus.Collector{m.requests, m.bytes, m.wait, m.aborted, m.tunnels, m.tunneled, m.lost,
		m.stale, m.refusedClients, m.refusedConns, m.throttled}, m.gauges...)
}

func tierIndex(t proto.Tier) int {
	for i := range tiers {
		if tiers[i] == t {
			return i
		}
	}
	return len(tiers)
}

func tierName(i int) string {
	if i < len(tiers) {
		return string(tiers[i])
	}
	return "none"
}

func codeIndex(status int) int {
	for i := range codes {
		if codes[i] == status {
			return i
		}
	}
	return len(codes)
}

// kindOf returns the index and the label of the kind of file asked for. Each kind takes a place of
// the table when it first comes up.
func (m *metrics) kindOf(x *exchange) (int, string) {
	if x.loc.Archive == "" {
		return kindNone, "none"
	}
	for i := range m.kinds {
		known := m.kinds[i].Load()
		if known == nil {
			kind := x.info.Kind
			m.kinds[i].CompareAndSwap(nil, &kind)
			known = m.kinds[i].Load()
		}
		if *known == x.info.Kind {
			return i, *known
		}
	}
	return kindOther, "other-kind"
}

// count adds a finished exchange.
func (m *metrics) count(x *exchange) {
	code, tier := codeIndex(x.status), tierIndex(x.note.tier)
	kind, kindName := m.kindOf(x)
	slot := &m.byAnswer[code][tier][kind]
	c := slot.Load()
	if c == nil {
		made := m.requests.WithLabelValues(codeNames[code], tierName(tier), kindName)
		c = &made
		slot.Store(c)
	}
	(*c).Inc()
	if x.sent > 0 {
		m.byTier[tier].bytes.Add(float64(x.sent))
	}
	if x.begun {
		m.byTier[tier].wait.Observe(x.firstByte.Seconds())
	}
	if x.note.why != "" {
		m.stale.WithLabelValues(x.loc.Archive).Inc()
	}
	if x.aborted {
		m.aborted.WithLabelValues(x.note.reason).Inc()
	}
}

// Stats is what clients were given since the start.
type Stats struct {
	Requests, Errors, Bytes int64 // errors are answers of 400 and above
	Tiers                   map[proto.Tier]TierStats
}

// TierStats is the share of one tier.
type TierStats struct{ Requests, Bytes int64 }

// Stats returns the present figures. They are read from the metrics, so that the two
// cannot disagree.
func (f *Front) Stats() Stats {
	m, s := f.metrics, Stats{Tiers: make(map[proto.Tier]TierStats)}
	for tier := range tierCount {
		sum := TierStats{Bytes: counted(m.byTier[tier].bytes)}
		s.Bytes += sum.Bytes
		for code := range m.byAnswer {
			for kind := range kindCount {
				c := m.byAnswer[code][tier][kind].Load()
				if c == nil {
					continue
				}
				n := counted(*c)
				sum.Requests += n
				if codeNames[code] >= "400" {
					s.Errors += n
				}
			}
		}
		s.Requests += sum.Requests
		if tier < len(tiers) && sum != (TierStats{}) {
			s.Tiers[tiers[tier]] = sum
		}
	}
	return s
}

func counted(c prometheus.Counter) int64 {
	var m dto.Metric
	if c.Write(&m) != nil {
		return 0 // a counter of our own always has a value
	}
	return int64(m.GetCounter().GetValue())
}
