package archives

import (
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
)

func TestWithMembers(t *testing.T) {
	cfg := config.Default()
	class, own := archiveconf.New("ppa"), archiveconf.New("own")
	class.Upstream, class.Aliases = "http://p.example.org/*/*/ubuntu", []string{"http://q.example.org/*/*/ubuntu"}
	class.SignedBy, class.CheckEvery = []string{"/k"}, 7
	own.Upstream = "https://p.example.org/mine/own/ubuntu"
	own.Aliases = []string{"http://q.example.org/half/own/ubuntu"}
	cfg.Archives = []archiveconf.Archive{class, own}
	got := withMembers(cfg, []string{"ppa/a/b", "ppa/mine/own", "ppa/half/own", "ppa/short", "gone/x", "ppa/a/b/more"})
	var names []string
	for _, a := range got.Archives {
		names = append(names, a.Name)
	}
	if !slices.Equal(names, []string{"own", "ppa/a/b", "ppa/half/own"}) || len(got.Classes) != 1 || len(cfg.Archives) != 2 {
		t.Fatal(names, got.Classes, cfg.Archives)
	}
	a, half := got.Archives[1], got.Archives[2]
	if a.Class != "ppa" || a.CheckEvery != 7 || a.Led || !slices.Equal(a.SignedBy, class.SignedBy) || !slices.Equal(a.Aliases, []string{"http://q.example.org/a/b/ubuntu"}) || len(half.Aliases) != 0 {
		t.Errorf("%+v, %+v", a, half)
	}
}

// The members of a class with an entry of upstreams have all that it says, each with a URL of its own.
func TestMembersOfUpstreams(t *testing.T) {
	cfg := config.Default()
	class := archiveconf.New("ppa")
	at := archiveconf.Mirror{URL: "https://*.p.example.org/*", Priority: 3, Weight: 1, TLS: upstream.TLSFiles{CA: "/ca"}}
	class.Upstreams = []archiveconf.Mirror{at}
	cfg.Archives = []archiveconf.Archive{class}
	got := withMembers(cfg, []string{"ppa/a/b", "ppa/c/d"}).Archives
	if len(got) != 2 || got[0].Upstream != "" {
		t.Fatalf("%+v", got)
	}
	for i, url := range []string{"https://a.p.example.org/b", "https://c.p.example.org/d"} {
		want := at
		want.URL, want.Led = url, true
		if m := got[i].Mirrors(); len(m) != 1 || m[0] != want {
			t.Errorf("%+v", m)
		}
	}
	if class.Upstreams[0] != at {
		t.Errorf("the class itself became %+v", class.Upstreams[0])
	}
}
