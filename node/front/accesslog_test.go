package front

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
)

func TestAccessLog(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		listed := map[string]string{"text": "yes", "json": "true"}[format]
		d := startFront(t, func(c *Config) { c.AccessFormat = format })
		d.has(helloPath, helloBytes, "file")
		d.ask("GET", "http://bob:hunter2@archive.ubuntu.com"+helloURL, "Range: bytes=0-99", `User-Agent: Debian APT-HTTP/1.3 (3.1.12) "x"`)
		d.ask("GET", "/ubuntu/missing")
		d.ask("GET", "/nothing/%0a%22x")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(d.logged.String(), "\n"), "\n")
		if len(lines) != 3 {
			t.Fatalf("%d lines: %s", len(lines), d.logged)
		}
		for i, want := range []map[string]string{
			{"level": "INFO", "msg": "access", "method": "GET", "url": "http://***@archive.ubuntu.com" + helloURL, "status": "206", "bytes": "100", "result": "hit", "tier": "disk",
				"archive": "ubuntu", "path": "", "kind": "package", "listed": listed, "generation": "2026-11-20T10:00:00Z", "agent": `Debian APT-HTTP/1.3 (3.1.12) "x"`},
			{"status": "404", "result": "error", "reason": "not-found", "kind": "other", "error": "not found upstream"},
			{"status": "400", "url": "/nothing/%0a%22x", "reason": "bad-request"},
		} {
			got := parseLine(t, format, lines[i])
			for key, value := range want {
				if got[key] != value {
					t.Errorf("%s: %q, want %q: %s", key, got[key], value, lines[i])
				}
			}
			for _, key := range []string{"time", "client", "ms", "ttfb_ms"} {
				if got[key] == "" {
					t.Errorf("no %s: %s", key, lines[i])
				}
			}
			if _, err := time.Parse(time.RFC3339, got["time"]); err != nil {
				t.Error(err)
			}
		}
	}
}

// parseLine reads a line back, in either format.
func parseLine(t *testing.T, format, line string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	if format == "json" {
		var values map[string]any
		if err := json.Unmarshal([]byte(line), &values); err != nil {
			t.Fatal(err, line)
		}
		for k, v := range values {
			b, _ := json.Marshal(v)
			got[k] = strings.Trim(string(b), `"`)
			if s, ok := v.(string); ok {
				got[k] = s
			}
		}
		return got
	}
	for rest := line; rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			t.Fatalf("%q has no =", rest)
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			end := 1
			for after[end] != '"' {
				if after[end] == '\\' {
					end++
				}
				end++
			}
			value = after[:end+1]
			if err := json.Unmarshal([]byte(value), &value); err != nil {
				t.Fatal(err, value)
			}
			after = strings.TrimPrefix(after[end+1:], " ")
		} else {
			value, after, _ = strings.Cut(after, " ")
		}
		got[key], rest = value, after
	}
	return got
}

// TestLineAsSlog: values come out as slog's own handler writes them.
func TestLineAsSlog(t *testing.T) {
	for _, value := range []string{"", "plain", "with space", `quo"te`, "a=b", "line\nbreak", "\x00\x1f\x7f", "ünï"} {
		for _, asJSON := range []bool{false, true} {
			var want bytes.Buffer
			var h slog.Handler = slog.NewTextHandler(&want, nil)
			if asJSON {
				h = slog.NewJSONHandler(&want, nil)
			}
			slog.New(h).Info("access", "k", value)
			e := encoder{json: asJSON}
			e.text("k", value)
			if asJSON {
				var a, b struct{ K string }
				if err := json.Unmarshal(want.Bytes(), &a); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal([]byte("{"+string(e.b[1:])+"}"), &b); err != nil || a != b {
					t.Errorf("%q: %s: %v", value, e.b, err)
				}
			} else if value != "ünï" && !strings.HasSuffix(want.String(), string(e.b)+"\n") { // we quote what is not ASCII
				t.Errorf("%q: %s, slog writes %s", value, e.b, want.String())
			}
		}
	}
}

func TestAppendMillis(t *testing.T) {
	for _, d := range []time.Time{testTime, testTime.Add(7 * time.Millisecond), testTime.Add(999999 * time.Microsecond).In(time.FixedZone("x", -3600))} {
		if got, want := string(appendMillis(nil, d)), d.UTC().Format("2006-01-02T15:04:05.000Z07:00"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// blocked is a log that cannot be written to.
type blocked struct{ release chan struct{} }

func (b *blocked) Write(p []byte) (int, error) {
	<-b.release
	return len(p), nil
}

func TestAccessLogNeverBlocks(t *testing.T) {
	b := &blocked{release: make(chan struct{})}
	f, err := New(Config{Archives: testArchives(t), AccessLog: b}, &fakeCatalog{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/nothing/"+strings.Repeat("x", 4000), nil)
	x := &exchange{f: f, r: r, began: testTime, status: 404}
	for range 3 * maxPending / 4000 {
		f.access.log(x, 0)
	}
	if n := gathered(t, f, "aptmesh_front_access_log_lost_total"); n == 0 {
		t.Error("no line was dropped")
	}
	if len(f.access.pending) > maxPending {
		t.Errorf("%d bytes are waiting", len(f.access.pending))
	}
	close(b.release)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error("twice:", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAccessLogError(t *testing.T) {
	d := startFront(t, func(c *Config) { c.AccessLog = broken{} })
	d.ask("GET", "/nothing/x")
	if err := d.Close(); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Error(err)
	}
}

// gathered adds up a metric, over all label values that contain each of the words.
func gathered(t *testing.T, f *Front, name string, words ...string) (sum float64) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(f.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	metric:
		for _, m := range family.GetMetric() {
			for _, w := range words {
				if !strings.Contains(m.String(), `value:"`+w+`"`) {
					continue metric
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func TestMetrics(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes, "file")
	d.has("small.deb", []byte("small"), "bytes")
	d.ask("GET", helloURL)
	d.ask("GET", helloURL, "Range: bytes=0-9")
	d.ask("GET", "/ubuntu/small.deb")
	d.ask("GET", "/ubuntu/small.deb", "If-Modified-Since: "+testTime.Format("Mon, 02 Jan 2006 15:04:05 GMT"))
	d.ask("GET", "/nothing/x")
	d.fetcher.open = func(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
		s := newScript(proto.ErrCorrupt)
		s.parts <- "x"
		close(s.parts)
		return &proto.Blob{Ref: proto.Ref{Size: proto.UnknownSize}, Tier: proto.TierUpstream, Stream: s}, nil
	}
	d.rawErr("GET " + helloURL + " HTTP/1.1\nHost: n\n\n")
	for _, tt := range []struct {
		want  float64
		name  string
		words []string
	}{
		{1, "requests_total", []string{"200", "disk", "package"}},
		{1, "requests_total", []string{"206", "disk", "package"}},
		{1, "requests_total", []string{"200", "memory", "package"}},
		{1, "requests_total", []string{"304", "memory", "package"}},
		{1, "requests_total", []string{"404", "none", "none"}},
		{1, "requests_total", []string{"200", "upstream", "package"}},
		{6, "requests_total", nil},
		{65546, "sent_bytes_total", []string{"disk"}},
		{5, "sent_bytes_total", []string{"memory"}},
		{1, "sent_bytes_total", []string{"upstream"}},
		{2, "first_byte_seconds", []string{"disk"}},
		{1, "aborted_total", []string{"broken-stream"}},
		{0, "in_flight", nil},
	} {
		if got := gathered(t, d.Front, "aptmesh_front_"+tt.name, tt.words...); got != tt.want {
			t.Errorf("%s %v: %v, want %v", tt.name, tt.words, got, tt.want)
		}
	}
}

// TestKindsAreBounded: however many words formats have for kinds of files, the table holds, and none
// is counted as another.
func TestKindsAreBounded(t *testing.T) {
	m := newMetrics()
	for i := range 3 * kindCount {
		kind := fmt.Sprint("kind ", i%(2*kindCount))
		x := &exchange{loc: proto.Location{Archive: "a"}, info: proto.PathInfo{Kind: kind}}
		at, name := m.kindOf(x)
		if at < kindOther && name != kind || at == kindNone || at == kindOther && i%(2*kindCount) < kindOther {
			t.Errorf("%s is counted as %d, %s", kind, at, name)
		}
	}
	if at, name := m.kindOf(new(exchange)); at != kindNone || name != "none" {
		t.Errorf("no file is counted as %d, %s", at, name)
	}
}
