package mirrorlist

import (
	"fmt"
	"net/url"
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
)

func at(url string, priority int) archiveconf.Mirror {
	return archiveconf.Mirror{URL: url, Priority: priority, Weight: 1}
}

// listsOf knows these lists and nothing else.
func listsOf(cfg *config.Config, texts map[string]string) *Lists {
	w := newListWorld()
	for at, text := range texts {
		w.files[Key{At: at}.StateName()] = []byte(text)
	}
	w.lists.Use(KeysOf(cfg))
	return w.lists
}

func TestMirrorsOf(t *testing.T) {
	const one, two = "mirror+http://lists.example.org/one", "mirror+https://lists.example.org/two"
	for _, tt := range []struct {
		name      string
		upstreams []archiveconf.Mirror
		lists     map[string]string
		want      []string // "priority URL"
	}{
		{
			"no list: as it is written, those asked first before the others",
			[]archiveconf.Mirror{at("http://b", 20), at("http://a", 10), at("http://c", 20)}, nil,
			[]string{"10 http://a", "20 http://b", "20 http://c"},
		},
		{
			"a list without priorities changes none",
			[]archiveconf.Mirror{at(one, 20), at("http://a", 10)}, map[string]string{one: "http://m1.example.org\nhttp://m2.example.org\n"},
			[]string{"10 http://a", "20 http://m1.example.org", "20 http://m2.example.org"},
		},
		{
			"priorities of a list stand within that of its upstream",
			[]archiveconf.Mirror{at(one, 10), at("http://a", 10), at("http://z", 11)},
			map[string]string{one: "http://m9.example.org priority:900\nhttp://m1.example.org priority:100\nhttp://last.example.org\n"},
			[]string{"1 http://a", "1 http://m1.example.org", "2 http://m9.example.org", "3 http://last.example.org", "4 http://z"},
		},
		{
			"a mirror named twice is there once, as the configuration has it",
			[]archiveconf.Mirror{at(one, 1), at(two, 1), at("http://a.example.org/u", 5)},
			map[string]string{one: "http://a.example.org/u\nhttp://b.example.org/u\n", two: "http://B.example.org:80/u/\nhttp://c.example.org/u\n"},
			[]string{"1 http://b.example.org/u", "1 http://c.example.org/u", "5 http://a.example.org/u"},
		},
		{
			"a list that leads here is no way out",
			[]archiveconf.Mirror{at(one, 1)}, map[string]string{one: "http://localhost:3142/ubuntu\nhttp://a.example.org/u\n"},
			[]string{"1 http://a.example.org/u"},
		},
		{"a list that is not known", []archiveconf.Mirror{at(one, 1), at("http://a", 2)}, nil, []string{"2 http://a"}},
		{"nothing known at all", []archiveconf.Mirror{at(one, 1)}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config.Default()
			a := archiveconf.New("ubuntu")
			a.Upstreams = tt.upstreams
			cfg.Archives = []archiveconf.Archive{a}
			var got []string
			for _, m := range listsOf(cfg, tt.lists).MirrorsOf(cfg, a) {
				got = append(got, fmt.Sprint(m.Priority, " ", m.URL))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("mirrors %q, want %q", got, tt.want)
			}
		})
	}
}

func TestClaimsTake(t *testing.T) {
	cfg := config.Default()
	a := archiveconf.New("a")
	a.Upstream, a.Aliases = "http://example.org/a", []string{"http://*.example.net/a"}
	cfg.Archives = []archiveconf.Archive{a}
	c := NewClaims(cfg)
	for _, tt := range []struct {
		archive, url string
		want         bool
	}{
		{"b", "https://example.org/a", false},
		{"a", "https://example.org/a", true},
		{"b", "http://x.example.net/a", false},
		{"a", "http://x.example.net/a", true},
		{"b", "http://example.net/a", true}, // "*." stands for one label at least
		{"c", "http://example.net/a", false},
		{"b", "http://x.example.net/b", true},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Take(tt.archive, u); got != tt.want {
			t.Errorf("%s may be meant by %s: %t", tt.archive, tt.url, got)
		}
	}
}

// An entry of a list may not take what belongs to another archive.
func TestArchiveAround(t *testing.T) {
	cfg := &config.Config{Archives: []archiveconf.Archive{
		{Name: "ubuntu", Upstream: "http://archive.example.org/ubuntu", Aliases: []string{"http://*.example.net/ubuntu/"}},
		{Name: "pro", Upstream: "https://esm.example.org/apps/ubuntu"},
		{Name: "listed", Upstream: "mirror+http://lists.example.org/mirrors.txt"},
	}}
	for at, want := range map[string]string{
		"http://archive.example.org/ubuntu/dists/noble-security": "ubuntu",
		"http://archive.example.org/ubuntu/":                     "", // the same place is no place inside
		"http://archive.example.org/ubuntu":                      "",
		"http://archive.example.org/ubuntu-ports":                "",
		"http://de.example.net/ubuntu/x":                         "ubuntu",
		"https://esm.example.org/apps/ubuntu/dists":              "pro",
		"https://esm.example.org/apps":                           "",
		"http://elsewhere.example.org/ubuntu/dists":              "",
	} {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		if got := archiveAround(cfg, "listed", u); got != want {
			t.Errorf("%s lies inside %q, want %q", at, got, want)
		}
	}
}
