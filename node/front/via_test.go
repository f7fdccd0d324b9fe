package front

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

func TestViaOf(t *testing.T) {
	many := strings.Repeat("1.1 a,", 10)
	for i := range proto.MaxVia + 10 {
		many += "1.1 p" + string(rune('a'+i%26)) + strings.Repeat("x", i) + ","
	}
	for name, tt := range map[string]struct {
		fields []string
		want   []string
	}{
		"one":                    {[]string{"1.1 aptmesh-1"}, []string{"aptmesh-1"}},
		"RFC 9110's own":         {[]string{"1.0 fred, 1.1 p.example.net"}, []string{"fred", "p.example.net"}},
		"a protocol by its name": {[]string{"HTTP/1.1 proxy:3128"}, []string{"proxy:3128"}},
		"two fields":             {[]string{"1.1 a", "1.1 b"}, []string{"a", "b"}},
		"a comment":              {[]string{"1.1 varnish (Varnish, 7.1), 1.1 b(x (y), z)"}, []string{"varnish", "b"}},
		"a tab":                  {[]string{"1.1\ta"}, []string{"a"}},
		"twice the same":         {[]string{"1.1 a, 1.1 a"}, []string{"a"}},
		"nothing":                {[]string{"", ",,", "1.1", "a b c"}, nil},
		"too long":               {[]string{"1.1 " + strings.Repeat("x", maxProxyName+1) + ", 1.1 b"}, []string{"b"}},
		"not ASCII":              {[]string{"1.1 a\r\nHost: b\x00é"}, nil},
	} {
		if got := viaOf(tt.fields); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if n := len(viaOf([]string{many})); n != proto.MaxVia {
		t.Errorf("%d of very many proxies are remembered", n)
	}
}

// A request that this node sent is refused before anything is looked up, whichever way it came; one
// of other proxies is answered, and they count as waiting until it is.
func TestOwnRequestsAreLoops(t *testing.T) {
	var mu sync.Mutex // guards what the handlers note
	waits, done, waiting := make(map[string][]string), 0, false
	d := startFront(t, func(c *Config) {
		c.Pseudonym = "aptmesh-1"
		c.Waits = func(loc proto.Location, via []string) func() {
			mu.Lock()
			defer mu.Unlock()
			waits[loc.String()] = via
			return func() {
				mu.Lock()
				defer mu.Unlock()
				done++
			}
		}
	})
	d.has(helloPath, helloBytes, "bytes")
	open := d.fetcher.open
	d.fetcher.open = func(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
		mu.Lock()
		waiting = done == 0
		mu.Unlock()
		return open(ctx, want)
	}
	send := func(line, via string) string {
		return d.raw(line + " HTTP/1.1\nHost: x\nConnection: close\nVia: " + via + "\n\n")
	}
	for _, line := range []string{"GET " + helloURL, "HEAD " + helloURL, "GET http://nobody.example.org/x", "GET /nothing/x", "CONNECT deb.example.org:443"} {
		got := send(line, "1.1 squid (a, b), 1.1 aptmesh-1, 1.1 other")
		if !strings.HasPrefix(got, "HTTP/1.1 508 ") || !strings.Contains(got, "loop") {
			t.Errorf("%s: %.300s", line, got)
		}
	}
	if mu.Lock(); len(waits) > 0 {
		t.Errorf("%v wait for an answer", waits)
	}
	mu.Unlock()
	if got := send("GET "+helloURL, "1.1 aptmesh-12, 1.1 other"); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("through other proxies: %.300s", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"aptmesh-12", "other"}; !slices.Equal(waits["ubuntu/"+helloPath], want) || !waiting || done != 1 {
		t.Errorf("%v waited, while the object was opened: %v, done %d times", waits, waiting, done)
	}
	if got := refuse(proto.Location{}, about{}, &proto.Rejected{Kind: proto.RejectLoop}); got.status != http.StatusLoopDetected {
		t.Errorf("a loop that upstream tells of is answered with %d", got.status)
	}
}
