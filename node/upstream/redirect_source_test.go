package upstream

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// provable is a request for a listed object.
func provable(path string) proto.Request {
	req := get(path)
	req.Provable, req.Size = true, int64(len(content))
	return req
}

func mirrorNamed(t *testing.T, c *Client, name string) MirrorStats {
	t.Helper()
	for _, m := range c.Stats().Mirrors {
		if m.URL == name {
			return m
		}
	}
	t.Fatalf("there is no mirror %s", name)
	return MirrorStats{}
}

// A redirector that names a bad host twice, and then a good one: the bad one is to blame.
func TestTheHostThatGaveTheBytesIsToBlame(t *testing.T) {
	wrong := strings.Repeat("x", len(content))
	good := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) })
	bad := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, wrong) })
	var asked atomic.Int64
	redirector := serve(t, func(w http.ResponseWriter, r *http.Request) {
		to := bad.URL
		if asked.Add(1)%3 == 0 {
			to = good.URL
		}
		http.Redirect(w, r, to+r.URL.Path, http.StatusFound)
	})
	c := client(t, redirector.URL)
	tr, got := mustFetch(t, c, provable("x.deb"))
	if got != wrong || tr.From != redirector.URL+" -> "+bad.URL {
		t.Fatalf("%q from %s", got, tr.From)
	}
	for _, path := range []string{"x.deb", "y.deb", "z.deb"} { // three make a liar
		c.Blame(provable(path).Loc, []string{tr.From}, proto.ErrCorrupt)
	}
	for range 4 {
		// Of this object, and then of all, the bad host gives nothing.
		for _, path := range []string{"x.deb", "other.deb"} {
			if tr, got := mustFetch(t, c, provable(path)); got != content || tr.From != redirector.URL+" -> "+good.URL {
				t.Errorf("%s: %q from %s", path, got, tr.From)
			}
		}
	}
	if m := mirrorNamed(t, c, redirector.URL); m.State != BreakerClosed || m.Penalties != 0 {
		t.Errorf("the redirector is %s, with %d penalties", m.State, m.Penalties)
	}
	// What nothing proves is asked for again by the mirror's own name.
	if tr, _ := mustFetch(t, c, get("x.txt")); tr.From != redirector.URL {
		t.Errorf("from %s", tr.From)
	}
}

// With nothing but the bad host, another mirror gives the object; without one, it is asked again.
func TestAHostToBlameIsTheLastResort(t *testing.T) {
	bad := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) })
	redirector := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, bad.URL+r.URL.Path, http.StatusFound)
	})
	var there atomic.Bool
	there.Store(true)
	second := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !there.Load() {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		io.WriteString(w, content)
	})
	c := client(t, redirector.URL, func(cfg *Config) {
		u, _ := url.Parse(second.URL)
		cfg.Archives[0].Mirrors = append(cfg.Archives[0].Mirrors, Mirror{URL: u, Priority: 1})
	})
	from := redirector.URL + " -> " + bad.URL
	if tr, _ := mustFetch(t, c, provable("x.deb")); tr.From != from {
		t.Fatalf("from %s", tr.From)
	}
	c.Blame(provable("x.deb").Loc, []string{from}, proto.ErrCorrupt)
	if tr, _ := mustFetch(t, c, provable("x.deb")); tr.From != second.URL {
		t.Errorf("from %s", tr.From)
	}
	there.Store(false)
	if tr, _ := mustFetch(t, c, provable("x.deb")); tr.From != from {
		t.Errorf("where no other has it: from %s", tr.From)
	}
}

// Bytes that will be proven may come under any type.
func TestTypesDoNotOverruleProofs(t *testing.T) {
	const page = "<?xml version='1.0'?><metadata/>"
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, page)
	})
	c := client(t, srv.URL)
	req := get("repodata/primary.xml")
	if _, err := c.Fetch(t.Context(), req); err == nil {
		t.Error("what nothing proves came as a page")
	}
	req.Provable = true
	if _, got := mustFetch(t, c, req); got != page {
		t.Errorf("%q", got)
	}
}

// Where a mirror redirects to a URL that is signed for GET, nothing else is asked there.
func TestSignedForGetOnly(t *testing.T) {
	var empty atomic.Bool
	store := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		body := content
		if empty.Load() {
			body = ""
		}
		http.ServeContent(w, r, "x", zeroTime, strings.NewReader(body))
	})
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, store.URL+r.URL.Path+"?signature=1", http.StatusFound)
	})
	c := client(t, srv.URL)
	req := get("x")
	req.Head = true
	if tr, got := mustFetch(t, c, req); got != "" || tr.Size != int64(len(content)) {
		t.Errorf("%q of %d", got, tr.Size)
	}
	empty.Store(true)
	if tr, _ := mustFetch(t, c, req); tr.Size != 0 {
		t.Errorf("an empty file has %d bytes", tr.Size)
	}
	empty.Store(false)
	s := c.settings.Load()
	m := s.archives["a"].mirrors[0]
	c.note(m.health, func(b *breaker, now time.Time) bool { return b.failed(proto.AlertErrors, tripAt, "", now) })
	c.probe(s, s.archives["a"], m, req)
	for end := time.Now().Add(time.Minute); mirrorNamed(t, c, srv.URL).State != BreakerClosed; {
		if time.Now().After(end) {
			t.Fatal("a probe by GET does not close the breaker")
		}
		time.Sleep(time.Millisecond)
	}
}

// Whoever makes up names does not take a mirror away from the others.
func TestMadeUpNamesOpenNoBreaker(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"403": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html>no such file")
		},
		"silence": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
	for what, answer := range answers {
		for listed, want := range map[bool]string{false: BreakerClosed, true: BreakerOpen} {
			srv := serve(t, answer)
			second := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) })
			c := client(t, srv.URL, func(cfg *Config) {
				u, _ := url.Parse(second.URL)
				cfg.Archives[0].Mirrors = append(cfg.Archives[0].Mirrors, Mirror{URL: u, Priority: 1})
				cfg.HeaderTimeout = time.Second
			})
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				req := get("pool/" + name)
				if !listed {
					req.Class = proto.ClassUnlisted
				}
				if _, err := c.Fetch(t.Context(), req); err == nil {
					t.Errorf("%s: there is a file", what)
				}
			}
			if got := mirrorNamed(t, c, srv.URL).State; got != want {
				t.Errorf("%s, listed %v: the breaker is %s, want %s", what, listed, got, want)
			}
		}
	}
}

// The digest in a made-up by-hash name proves nothing against a mirror that has a page for each name.
func TestWrongBytesOfMadeUpNames(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) })
	for class, want := range map[proto.Class]string{proto.ClassUnlisted: BreakerClosed, proto.ClassPackage: BreakerOpen} {
		c := client(t, srv.URL)
		for _, name := range []string{"a", "b", "c"} {
			req := provable("by-hash/SHA256/" + name)
			req.Class, req.Mirror = class, srv.URL
			tr, err := c.Fetch(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			tr.Body.Close()
			c.Blame(req.Loc, []string{tr.From}, proto.ErrCorrupt)
		}
		if got := mirrorNamed(t, c, srv.URL).State; got != want {
			t.Errorf("%s: the breaker is %s, want %s", class, got, want)
		}
	}
}

// Where a made-up name leads may be down by itself: that it asks to wait says nothing of the rest. Too many
// requests are too many, whatever they are for.
func TestMadeUpNamesAskNobodyElseToWait(t *testing.T) {
	for _, tt := range []struct {
		status int
		class  proto.Class
		want   string
	}{
		{http.StatusServiceUnavailable, proto.ClassUnlisted, BreakerClosed},
		{http.StatusServiceUnavailable, proto.ClassPackage, BreakerOpen},
		{http.StatusTooManyRequests, proto.ClassUnlisted, BreakerOpen},
	} {
		srv := serve(t, answers(tt.status, "Retry-After", "600"))
		c := client(t, srv.URL)
		req := get("cgi/x")
		req.Class = tt.class
		_, err := c.Fetch(t.Context(), req)
		if busy := unavailable(t, err); busy.RetryAfter != 10*time.Minute {
			t.Errorf("%d, %s: to wait %v", tt.status, tt.class, busy.RetryAfter)
		}
		if got := mirrorNamed(t, c, srv.URL).State; got != tt.want {
			t.Errorf("%d, %s: the breaker is %s, want %s", tt.status, tt.class, got, tt.want)
		}
	}
}
