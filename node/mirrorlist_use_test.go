package node

import (
	"fmt"
	"github.com/aptmesh/aptmesh/node/config"
	"log/slog"
	"net/url"
	"slices"
	"testing"
)

// nodeWithLists is a node that knows these lists and nothing else.
func nodeWithLists(cfg *config.Config, texts map[string]string) *Node {
	w := newListWorld()
	for at, text := range texts {
		w.files[listKey{at: at}.stateName()] = []byte(text)
	}
	n := &Node{cfg: cfg, log: slog.New(slog.DiscardHandler), lists: w.lists, loops: newLoops()}
	n.lists.use(listKeys(cfg))
	return n
}

func at(url string, priority config.Count) config.Mirror {
	return config.Mirror{URL: url, Priority: priority, Weight: 1}
}

func TestMirrorsOf(t *testing.T) {
	const one, two = "mirror+http://lists.example.org/one", "mirror+https://lists.example.org/two"
	for _, tt := range []struct {
		name      string
		upstreams []config.Mirror
		lists     map[string]string
		want      []string // "priority URL"
	}{
		{
			"no list: as it is written, those asked first before the others",
			[]config.Mirror{at("http://b", 20), at("http://a", 10), at("http://c", 20)}, nil,
			[]string{"10 http://a", "20 http://b", "20 http://c"},
		},
		{
			"a list without priorities changes none",
			[]config.Mirror{at(one, 20), at("http://a", 10)}, map[string]string{one: "http://m1.example.org\nhttp://m2.example.org\n"},
			[]string{"10 http://a", "20 http://m1.example.org", "20 http://m2.example.org"},
		},
		{
			"priorities of a list stand within that of its upstream",
			[]config.Mirror{at(one, 10), at("http://a", 10), at("http://z", 11)},
			map[string]string{one: "http://m9.example.org priority:900\nhttp://m1.example.org priority:100\nhttp://last.example.org\n"},
			[]string{"1 http://a", "1 http://m1.example.org", "2 http://m9.example.org", "3 http://last.example.org", "4 http://z"},
		},
		{
			"a mirror named twice is there once, as the configuration has it",
			[]config.Mirror{at(one, 1), at(two, 1), at("http://a.example.org/u", 5)},
			map[string]string{one: "http://a.example.org/u\nhttp://b.example.org/u\n", two: "http://B.example.org:80/u/\nhttp://c.example.org/u\n"},
			[]string{"1 http://b.example.org/u", "1 http://c.example.org/u", "5 http://a.example.org/u"},
		},
		{
			"a list that leads here is no way out",
			[]config.Mirror{at(one, 1)}, map[string]string{one: "http://localhost:3142/ubuntu\nhttp://a.example.org/u\n"},
			[]string{"1 http://a.example.org/u"},
		},
		{"a list that is not known", []config.Mirror{at(one, 1), at("http://a", 2)}, nil, []string{"2 http://a"}},
		{"nothing known at all", []config.Mirror{at(one, 1)}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config.Default()
			a := config.NewArchive("ubuntu")
			a.Upstreams = tt.upstreams
			cfg.Archives = []config.Archive{a}
			var got []string
			for _, m := range nodeWithLists(cfg, tt.lists).mirrorsOf(cfg, a) {
				got = append(got, fmt.Sprint(m.Priority, " ", m.URL))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("mirrors %q, want %q", got, tt.want)
			}
		})
	}
}

// What a list names belongs to its archive in proxy requests, unless the
// configuration says that it belongs to another one.
func TestClaimsOfLists(t *testing.T) {
	const list = "mirror+http://lists.example.org/one"
	cfg := config.Default()
	ubuntu, listed, again := config.NewArchive("ubuntu"), config.NewArchive("listed"), config.NewArchive("again")
	ubuntu.Upstream, ubuntu.Aliases = "http://archive.ubuntu.com/ubuntu", []string{"http://*.archive.ubuntu.com/ubuntu"}
	listed.Upstream, listed.Aliases = list, []string{"http://*.example.org/ubuntu"}
	again.Upstream = list
	cfg.Archives = []config.Archive{listed, ubuntu, again}
	n := nodeWithLists(cfg, map[string]string{list: "https://archive.ubuntu.com/ubuntu\nhttp://de.archive.ubuntu.com/ubuntu\nhttp://a.example.org/ubuntu\nhttp://b.example.com/ubuntu\nhttp://de.archive.ubuntu.com/other\n"})
	p, err := n.planMirrors(cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][]string)
	for _, a := range p.front.Archives {
		for _, m := range a.Mirrors {
			got[a.Name] = append(got[a.Name], m.String())
		}
		if a.Upstream == nil {
			t.Errorf("%s has no URL for the door to name", a.Name)
		}
	}
	for name, want := range map[string][]string{
		"ubuntu": {"http://archive.ubuntu.com/ubuntu"},
		"listed": {"http://a.example.org/ubuntu", "http://b.example.com/ubuntu", "http://de.archive.ubuntu.com/other"},
		"again":  nil,
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("%s is meant by %q, want %q", name, got[name], want)
		}
	}
	// All of them are asked, whomever a proxy request for them would mean.
	for _, a := range p.upstream.Archives {
		if want := map[string]int{"ubuntu": 1, "listed": 5, "again": 5}[a.Name]; len(a.Mirrors) != want {
			t.Errorf("%s is fetched from %d mirrors, want %d", a.Name, len(a.Mirrors), want)
		}
	}
}

// An archive that waits for its list is no archive of the HTTP client's yet.
func TestPlanWithoutMirrors(t *testing.T) {
	cfg := config.Default()
	a, b := config.NewArchive("a"), config.NewArchive("b")
	a.Upstreams = []config.Mirror{at("mirror+http://lists.example.org/one", 1), at("mirror+http://lists.example.org/two", 1)}
	b.Upstream = "http://b.example.org"
	cfg.Archives = []config.Archive{a, b}
	p, err := nodeWithLists(cfg, nil).planMirrors(cfg)
	if err != nil || len(p.upstream.Archives) != 1 || p.upstream.Archives[0].Name != "b" || len(p.front.Archives) != 2 {
		t.Errorf("the plan is %+v, %v", p, err)
	}
	if len(p.unlisted) != 1 || len(p.unlisted["a"]) != 2 {
		t.Errorf("%v wait for their lists", p.unlisted)
	}
	if u := p.front.Archives[0].Upstream; u == nil || u.Hostname() != "mirrors.invalid" {
		t.Errorf("the door names %v", u)
	}
}

func TestClaimsTake(t *testing.T) {
	cfg := config.Default()
	a := config.NewArchive("a")
	a.Upstream, a.Aliases = "http://example.org/a", []string{"http://*.example.net/a"}
	cfg.Archives = []config.Archive{a}
	c := newClaims(cfg)
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
		if got := c.take(tt.archive, u); got != tt.want {
			t.Errorf("%s may be meant by %s: %t", tt.archive, tt.url, got)
		}
	}
}

// An entry of a list may not take what belongs to another archive.
func TestArchiveAround(t *testing.T) {
	cfg := &config.Config{Archives: []config.Archive{
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
