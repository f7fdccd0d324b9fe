package archives

import (
	"net/netip"
	"slices"
	"strings"
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

// Each archive with a service of history has a class of what it was at every date, with its keys and its rules.
func TestHistoryClasses(t *testing.T) {
	archive := func(name, history string) archiveconf.Archive {
		return archiveconf.Archive{Name: name, Format: "apt", Upstream: "http://a.example.org/" + name, Aliases: []string{"http://b.example.org"}, Suites: []string{"x"}, SignedBy: []string{"/k"},
			Deny: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, History: history, Credentials: upstream.Credentials{User: "u", PasswordFile: "/secret"}}
	}
	cfg := &config.Config{Archives: archiveconf.Archives{
		archive("ubuntu", "https://h.example.org/u"), archive("arch", "https://h.example.org/a/{yyyy}/{mm}/{dd}"), archive("plain", ""), archive("own", "http://own.example.org/o"),
		archive("taken", "http://h.example.org/taken"), archive("history/taken", ""),
		{Name: "at", Format: "apt", Upstream: "https://own.example.org/o/*"},
	}}
	next := withMembers(cfg, []string{"history/ubuntu/20240301T000000Z", "history/arch/2024/03/01", "at/20240301T000000Z"})
	got := make(map[string]archiveconf.Archive)
	for _, a := range next.Archives[len(cfg.Archives)-1:] {
		got[a.Name] = a
	}
	for name, url := range map[string]string{
		"history/ubuntu/20240301T000000Z": "https://h.example.org/u/20240301T000000Z", "history/arch/2024/03/01": "https://h.example.org/a/2024/03/01", "at/20240301T000000Z": "https://own.example.org/o/20240301T000000Z",
	} {
		a, ok := got[name]
		if !ok || a.Upstream != url || a.History != "" || len(a.Aliases)+len(a.Suites) != 0 {
			t.Errorf("%s: %+v", name, a)
		}
		if !a.Credentials.IsZero() {
			t.Errorf("%s is sent the credentials of the archive", name)
		}
		if derived := strings.HasPrefix(name, historyPrefix); derived && (!a.Immutable || len(a.Deny) != 1 || len(a.SignedBy) != 1) {
			t.Errorf("%s has not the rules of its archive: %+v", name, a)
		}
	}
	var names []string
	for _, c := range next.Classes {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, []string{"at", "history/ubuntu", "history/arch"}) {
		t.Errorf("classes %q", names)
	}
}

// Hosts are given the archive itself, and not the class of what it was.
func TestHostFilesWithoutHistory(t *testing.T) {
	cfg := config.Default()
	fedora := archiveconf.New("fedora")
	fedora.Format, fedora.Upstream, fedora.History = "rpm", "http://f.example.org", "http://h.example.org/f"
	cfg.Archives = archiveconf.Archives{fedora}
	next := withMembers(cfg, nil)
	p, err := withLists(next, nil).planMirrors(next)
	if err != nil || len(next.Classes) != 1 {
		t.Fatal(next.Classes, err)
	}
	files := p.front.HostFiles("http://n", func(string) bool { return false })
	if len(files) != 1 || strings.Contains(files[0].Text, historyPrefix) || !strings.Contains(files[0].Text, "http://n/fedora") {
		t.Errorf("%+v", files)
	}
}
