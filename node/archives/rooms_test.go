package archives

import (
	"io/fs"
	"log/slog"
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
)

// keptLists are the lists of a run before, by file.
type keptLists map[string]string

func (k keptLists) WriteFile(string, []byte) error { return nil }

func (k keptLists) ReadFile(name string) ([]byte, error) {
	if text, ok := k[name]; ok {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

// withLists are archives of which these lists are known, and nothing else.
func withLists(cfg *config.Config, texts map[string]string) *Archives {
	kept := make(keptLists)
	for at, text := range texts {
		kept[mirrorlist.Key{At: at}.StateName()] = text
	}
	log := slog.New(slog.DiscardHandler)
	a := &Archives{table: NewTable(cfg, kept, log), log: log, lists: mirrorlist.New(mirrorlist.Config{State: kept, Logger: log})}
	a.lists.Use(mirrorlist.KeysOf(cfg))
	return a
}

func at(url string, priority int) archiveconf.Mirror {
	return archiveconf.Mirror{URL: url, Priority: priority, Weight: 1}
}

// What a list names belongs to its archive in proxy requests, unless the
// configuration says that it belongs to another one.
func TestClaimsOfLists(t *testing.T) {
	const list = "mirror+http://lists.example.org/one"
	cfg := config.Default()
	ubuntu, listed, again := archiveconf.New("ubuntu"), archiveconf.New("listed"), archiveconf.New("again")
	ubuntu.Upstream, ubuntu.Aliases = "http://archive.ubuntu.com/ubuntu", []string{"http://*.archive.ubuntu.com/ubuntu"}
	listed.Upstream, listed.Aliases = list, []string{"http://*.example.org/ubuntu"}
	again.Upstream = list
	cfg.Archives = []archiveconf.Archive{listed, ubuntu, again}
	a := withLists(cfg, map[string]string{list: "https://archive.ubuntu.com/ubuntu\nhttp://de.archive.ubuntu.com/ubuntu\nhttp://a.example.org/ubuntu\nhttp://b.example.com/ubuntu\nhttp://de.archive.ubuntu.com/other\n"})
	p, err := a.planMirrors(cfg)
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
	a, b := archiveconf.New("a"), archiveconf.New("b")
	a.Upstreams = []archiveconf.Mirror{at("mirror+http://lists.example.org/one", 1), at("mirror+http://lists.example.org/two", 1)}
	b.Upstream = "http://b.example.org"
	cfg.Archives = []archiveconf.Archive{a, b}
	p, err := withLists(cfg, nil).planMirrors(cfg)
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

// What does not change which roots an archive accepts leaves its trust the same.
func TestTrust(t *testing.T) {
	base := archiveconf.Archive{Name: "a", Format: "apt", Upstream: "http://a.example.org"}
	rpm := base
	rpm.Format = "rpm"
	for what, tt := range map[string]struct {
		of     archiveconf.Archive
		change func(a *archiveconf.Archive)
		keys   string
		same   bool
	}{
		"check_every":         {base, func(a *archiveconf.Archive) { a.CheckEvery = 1 }, "k", true},
		"upstream":            {base, func(a *archiveconf.Archive) { a.Upstream = "http://b.example.org" }, "k", true},
		"the URL of a root":   {rpm, func(a *archiveconf.Archive) { a.Upstream = "http://b.example.org" }, "k", false},
		"an alias of a root":  {rpm, func(a *archiveconf.Archive) { a.Aliases = []string{"http://b.example.org"} }, "k", false},
		"keys":                {base, func(*archiveconf.Archive) {}, "other", false},
		"unsigned":            {base, func(a *archiveconf.Archive) { a.Unsigned = true }, "k", false},
		"an unsigned suite":   {base, func(a *archiveconf.Archive) { a.UnsignedSuites = []string{"x"} }, "k", false},
		"a metalink":          {rpm, func(a *archiveconf.Archive) { a.Metalink = []string{"x y"} }, "k", false},
		"trust in the server": {base, func(a *archiveconf.Archive) { a.TrustHTTPS = true }, "k", false},
	} {
		changed := tt.of
		tt.change(&changed)
		if same := trustOf(changed, tt.keys) == trustOf(tt.of, "k"); same != tt.same {
			t.Errorf("after a change of %s, the trust is the same: %v", what, same)
		}
	}
}
