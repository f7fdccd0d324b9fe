package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// leadsTo redirects to a location.
func leadsTo(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, location, http.StatusFound) }
}

// A transfer says which site it came from where redirects left the mirror's, and only if it is known
// where other files are there: apt's own conditions.
func TestRedirectedRootNamesItsSite(t *testing.T) {
	const path = "dists/noble-updates/InRelease"
	for name, tt := range map[string]struct{ location, base string }{
		"no redirect":               {"", ""},
		"another site":              {"http://m5.example.org/root5/" + path, "http://m5.example.org/root5"},
		"another site, at its root": {"http://m5.example.org/" + path, "http://m5.example.org"},
		"a root with a blank":       {"http://m5.example.org/a%20b/" + path, "http://m5.example.org/a%20b"},
		"a user in the target":      {"http://me:secret@m5.example.org/root5/" + path, "http://m5.example.org/root5"},
		"the same site":             {"http://m0.example.org/moved/" + path, ""},
		"another name":              {"http://m5.example.org/root5/InRelease.1", ""},
		"another directory":         {"http://m5.example.org/root5/noble-updates/InRelease", "http://m5.example.org/root5/noble-updates#dists/noble-updates"},
		"the site's root":           {"http://m5.example.org/InRelease", "http://m5.example.org#dists/noble-updates"},
		"a query":                   {"http://m5.example.org/root5/" + path + "?key=1", ""},
	} {
		bubble.Test(t, func(t *testing.T) {
			r := newRealm(t, 1)
			if tt.location != "" {
				first := true
				r.at(0, func(w http.ResponseWriter, req *http.Request) {
					if first {
						first = false
						leadsTo(tt.location)(w, req)
						return
					}
					honest(w, req)
				})
			}
			tr, got := mustFetch(t, r.Client, get(path))
			if tr.Base != tt.base || tr.From != nameOf(0) || got != object {
				t.Errorf("%s: Base is %q, want %q (from %s)", name, tr.Base, tt.base, tr.From)
			}
		})
	}
}

// A member of a suite whose root was redirected is asked of the site that the root came from, and of
// the mirrors where that has nothing to give. What the site does costs the mirror nothing.
func TestMembersAreAskedAtTheSiteOfTheirRoot(t *testing.T) {
	site, mirror := nameOf(5), nameOf(0)
	for name, tt := range map[string]struct {
		site  http.HandlerFunc
		dial  func(context.Context) error
		from  string
		again string // who gives the same object the next time
	}{
		"it has it":        {nil, nil, site, site},
		"it lacks it":      {answers(404), nil, mirror, mirror},
		"another length":   {gives("something else"), nil, mirror, mirror},
		"trouble":          {answers(500), nil, mirror, mirror},
		"it refuses":       {answers(403), nil, mirror, mirror},
		"a page":           {page, nil, mirror, mirror},
		"it leads to http": {leadsTo("http://m6.example.org/x"), nil, site, site},
		"it leads away":    {leadsTo("ftp://m6.example.org/x"), nil, mirror, mirror},
		"a loop":           {leadsTo("/root5/x"), nil, mirror, mirror},
		"not there":        {nil, connectionRefused, mirror, mirror},
		"black hole":       {nil, blackHole, mirror, mirror},
	} {
		bubble.Test(t, func(t *testing.T) {
			r := newRealm(t, 1)
			r.at(5, tt.site)
			r.dialing(5, tt.dial)
			req := get("dists/noble/main/binary-amd64/Packages.xz")
			req.Base, req.Size = site, int64(len(object))
			for _, want := range []string{tt.from, tt.again} {
				began := time.Now()
				tr, got := mustFetch(t, r.Client, req)
				if tr.From != want || got != object {
					t.Errorf("%s: %q came from %s, want %s", name, got, tr.From, want)
				}
				if took := time.Since(began); took > connectTimeout+time.Second {
					t.Errorf("%s: took %s", name, took)
				}
			}
			if s := r.state(0); s.State != "closed" || s.Penalties > 0 || len(s.Failovers) > 0 {
				t.Errorf("%s: held against the mirror: %+v", name, s)
			}
			if hosts := r.Stats().Mirrors; len(hosts) != 1 {
				t.Errorf("%s: %d mirrors are known", name, len(hosts))
			}
		})
	}
}

// Where a redirect kept the name of the root alone, its directory is known at the other site, and no more.
func TestMembersBesideARedirectedRoot(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1)
		var asked []string
		r.at(5, func(w http.ResponseWriter, req *http.Request) {
			asked = append(asked, req.URL.Path)
			honest(w, req)
		})
		base := nameOf(5) + "/there#dists/noble"
		for path, from := range map[string]string{
			"dists/noble/main/binary-amd64/Packages.xz": base,
			"dists/noble-updates/InRelease":             nameOf(0),
			"pool/x.deb":                                nameOf(0),
		} {
			req := get(path)
			req.Base = base
			if tr, got := mustFetch(t, r.Client, req); tr.From != from || got != object {
				t.Errorf("%s came from %s, want %s", path, tr.From, from)
			}
			req.Mirror = base // as for the rest of what that site began
			if _, err := r.Fetch(t.Context(), req); (err == nil) != (from == base) {
				t.Errorf("%s, of that site alone: %v", path, err)
			}
		}
		if want := "/root5/there/main/binary-amd64/Packages.xz"; len(asked) != 2 || asked[0] != want || asked[1] != want {
			t.Errorf("the site was asked for %q, want %q twice", asked, want)
		}
	})
}

// A site that gives a body wrong, or only in part, is not asked for that object again for a while.
func TestSiteThatFailsInItsBody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1)
		r.at(5, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Length", "16")
			io.WriteString(w, object[:5])
		})
		req := get("dists/noble/x")
		req.Base = nameOf(5)
		if _, _, err := fetchAll(t.Context(), r.Client, req); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("the body ended with %v", err)
		}
		rest := req
		rest.Offset = 5
		if tr, got := mustFetch(t, r.Client, rest); tr.From != nameOf(0) || got != object[5:] {
			t.Errorf("the rest, %q, came from %s", got, tr.From)
		}
		r.at(5, nil)
		other := req
		other.Loc.Path = "dists/noble/y"
		if tr, _ := mustFetch(t, r.Client, other); tr.From != nameOf(5) {
			t.Errorf("another object came from %s", tr.From)
		}
		r.Blame(other.Loc, []string{nameOf(5)}, proto.ErrCorrupt)
		if tr, _ := mustFetch(t, r.Client, other); tr.From != nameOf(0) {
			t.Errorf("what the site gave wrong came from %s again", tr.From)
		}
		bound := req
		bound.Loc.Path, bound.Mirror = "dists/noble/z", nameOf(5)
		if tr, _ := mustFetch(t, r.Client, bound); tr.From != nameOf(5) {
			t.Errorf("what only the site may give came from %s", tr.From)
		}
	})
}

// A site that no mirror may redirect to is not asked, whoever names it.
func TestSitesThatNobodyMayLeadTo(t *testing.T) {
	mirrors := func(urls ...string) *archive {
		a := &archive{name: "a"}
		for _, s := range urls {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			a.mirrors = append(a.mirrors, &mirror{Mirror: Mirror{URL: u}, name: s})
		}
		return a
	}
	plain, secure := "http://m0.example.org/x", "https://m1.example.org/x"
	c := client(t, plain)
	for _, tt := range []struct {
		archive *archive
		base    string
		asked   bool
	}{
		{mirrors(plain), "http://other.example.org/x", true},
		{mirrors(plain), "https://other.example.org", true},
		{mirrors(secure), "https://other.example.org/x", true},
		{mirrors(secure, plain), "http://other.example.org/x", true},
		{mirrors(secure), "http://other.example.org/x", false},
		{mirrors(plain), "file:///etc", false},
		{mirrors(plain), "ftp://other.example.org/x", false},
		{mirrors(plain), "http:///x", false},
		{mirrors(plain), "other.example.org/x", false},
		{mirrors(plain), "http://other.example.org/x?key=1", false},
		{mirrors(plain), "http://%zz/", false},
	} {
		if m, err := c.siteOf(c.settings.Load(), tt.archive, tt.base); (err == nil) != tt.asked || err == nil && m.URL.String() != tt.base {
			t.Errorf("%s from %s: %v, %v", tt.base, tt.archive.mirrors[0].name, m, err)
		}
	}
	a := mirrors(plain)
	if m, _ := c.siteOf(c.settings.Load(), a, plain); m != a.mirrors[0] {
		t.Error("a site that is a mirror is not taken for it")
	}
}
