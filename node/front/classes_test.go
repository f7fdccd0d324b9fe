package front

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// fakeClasses is one class, http://ppa.example.org/*/ubuntu, called ppa.
type fakeClasses struct {
	made func(archive string, client netip.Addr) error
}

func (fakeClasses) At(host, path string) (archive, rest string, ok bool) {
	value, after, _ := strings.Cut(path, "/")
	after, ok = strings.CutPrefix(after+"/", "ubuntu/")
	return "ppa/" + value, strings.TrimSuffix(after, "/"), ok && host == "ppa.example.org"
}

func (fakeClasses) Named(path string) (archive, rest string, ok bool) {
	below, ok := strings.CutPrefix(path, "ppa/")
	value, rest, _ := strings.Cut(below, "/")
	return "ppa/" + value, rest, ok && value != ""
}

func (fakeClasses) Forms() []string { return []string{"ppa/*"} }

func (fakeClasses) Guard(string) (allow, deny []netip.Prefix) {
	return nil, []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
}

func (c fakeClasses) Make(archive string, client netip.Addr) error { return c.made(archive, client) }

// Of what is there and what a class could make, the archive with the longer URL is meant; of two at one URL the one that is
// there.
func TestLocateClass(t *testing.T) {
	routes, err := newRoutes([]Archive{
		{Name: "host", Upstream: mustURL(t, "http://ppa.example.org/")},
		{Name: "own", Upstream: mustURL(t, "https://ppa.example.org/own/ubuntu")},
		{Name: "deep", Upstream: mustURL(t, "http://ppa.example.org/x/ubuntu/deep")},
		{Name: "ppa/made", Upstream: mustURL(t, "http://ppa.example.org/made/ubuntu")},
	}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	routes.classes = fakeClasses{}
	for target, want := range map[string]string{
		"http://ppa.example.org/new/ubuntu/dists/x":    "ppa/new/dists/x, to be made",
		"/ppa/new/dists/x":                             "ppa/new/dists/x, to be made",
		"/ppa.example.org/new/ubuntu/dists/x":          "ppa/new/dists/x, to be made",
		"http://HTTPS///ppa.example.org/new/ubuntu/x":  "ppa/new/x, to be made",
		"http://ppa.example.org/made/ubuntu/dists/x":   "ppa/made/dists/x",
		"/ppa/made/dists/x":                            "ppa/made/dists/x",
		"http://ppa.example.org/own/ubuntu/dists/x":    "own/dists/x",
		"http://ppa.example.org/x/ubuntu/deep/dists/x": "deep/dists/x",
		"http://ppa.example.org/x/ubuntu/other/x":      "ppa/x/other/x, to be made",
		"http://ppa.example.org/new/debian/x":          "host/new/debian/x",
		"http://ppa.example.org/new/ubuntu/":           "404 this is a directory",
		"/ppa/new/":                                    "404 this is a directory",
		"/ppa/":                                        "404 ppa is a class of archives: ask for ppa/*, with",
		"/ppa":                                         "404 ppa is a class of archives: ask for ppa/*, with",
		"/pp/new/dists/x":                              `404 no archive "pp" is configured: a path begins with a name under the config key archives: or with the host of its upstream; known are ppa/*, deep, host, own, ppa/made`,
		"http://ppa.example.com/new/ubuntu/x":          "403 this is no open proxy",
	} {
		loc, err := routes.locate(target, nil)
		got := loc.String()
		var r *refusal
		switch {
		case errors.As(err, new(*notMade)):
			got += ", to be made"
		case errors.As(err, &r):
			got = strings.TrimSpace(string(rune('0'+r.status/100)) + "0" + string(rune('0'+r.status%10)) + " " + r.text)
		}
		if !strings.HasPrefix(got, want) || strings.HasSuffix(got, "to be made") != strings.HasSuffix(want, "to be made") {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

// An archive is made once a client that may read it asks, and what says no to that is the answer.
func TestMakeClass(t *testing.T) {
	var d *testFront
	made := 0
	d = startFront(t, func(c *Config) {
		c.Classes = fakeClasses{func(archive string, client netip.Addr) error {
			made++
			if archive == "ppa/no" {
				return errors.New("too many")
			}
			return d.Apply(Rules{Archives: []Archive{{Name: archive, Upstream: mustURL(t, "http://ppa.example.org/yes/ubuntu"), Format: fakeFormat{}}}, Classes: fakeClasses{}})
		}}
	})
	if e := d.Explain("/ppa/yes/x"); e.Would != nil || e.Location.String() != "ppa/yes/x" || made != 0 {
		t.Errorf("explaining: %+v, made %d", e, made)
	}
	if got := d.from("127.0.0.9", "GET /ppa/yes/dists/noble/InRelease HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.HasPrefix(got, "HTTP/1.1 403") || made != 0 {
		t.Errorf("a client that may not: %s, made %d", got, made)
	}
	if got := d.raw("GET /ppa/no/dists/noble/InRelease HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.HasPrefix(got, "HTTP/1.1 50") || made != 1 {
		t.Errorf("what cannot be made: %s, made %d", got, made)
	}
	got := d.raw("GET /ppa/yes/dists/noble/InRelease HTTP/1.1\nHost: x\nConnection: close\n\n")
	if made != 2 || strings.Contains(got, "not there yet") {
		t.Errorf("%s, made %d", got, made)
	}
	if loc, err := d.rules.Load().routes.locate("/ppa/yes/x", nil); err != nil || loc.String() != "ppa/yes/x" {
		t.Errorf("the archive is not there: %v, %v", loc, err)
	}
}
