package config

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// classed is the classes of a configuration with these upstreams, which are named a, b and so on, and what a check says.
func classed(t testing.TB, upstreams ...string) (Classes, []string) {
	cfg := Default()
	for i, u := range upstreams {
		a := NewArchive(string(rune('a' + i)))
		first, aliases, _ := strings.Cut(u, " ")
		a.Upstream, a.Aliases, a.SignedBy = first, strings.Fields(aliases), []string{"/k"}
		cfg.Archives = append(cfg.Archives, a)
	}
	c := lenientChecker(cfg)
	c.check()
	var problems []string
	for _, p := range c.problems {
		problems = append(problems, p.message)
	}
	_, classes := cfg.Split()
	return classes, problems
}

func TestClassesAt(t *testing.T) {
	classes, problems := classed(t,
		"http://ppa.launchpadcontent.net/*/*/ubuntu http://ppa.launchpad.net/*/*/ubuntu",
		"https://*.download.example.org:8443/repos/*",
		"http://one.example.org/*",
		"http://one.example.org/*/deep/*",
		"http://two.example.org/*/deep/*",
		"http://two.example.org/*",
		"http://fixed.example.org/x")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for at, want := range map[string]string{
		"ppa.launchpadcontent.net/deadsnakes/ppa/ubuntu/dists/noble/InRelease": "a/deadsnakes/ppa http://ppa.launchpadcontent.net/deadsnakes/ppa/ubuntu dists/noble/InRelease",
		"ppa.launchpad.net/deadsnakes/ppa/ubuntu/x":                            "a/deadsnakes/ppa http://ppa.launchpadcontent.net/deadsnakes/ppa/ubuntu x",
		"ppa.launchpadcontent.net/c++/5.x~y/ubuntu/x":                          "a/c++/5.x~y http://ppa.launchpadcontent.net/c++/5.x~y/ubuntu x",
		"ppa.launchpadcontent.net/Case/ppa/ubuntu":                             "a/Case/ppa http://ppa.launchpadcontent.net/Case/ppa/ubuntu ",
		"ppa.launchpadcontent.net/deadsnakes/ppa/debian/x":                     "",
		"ppa.launchpadcontent.net/deadsnakes/ppa":                              "",
		"ppa.launchpadcontent.net:8080/deadsnakes/ppa/ubuntu/x":                "",
		"x.launchpadcontent.net/deadsnakes/ppa/ubuntu/x":                       "",
		"ppa.launchpadcontent.net/../ppa/ubuntu/x":                             "",
		"ppa.launchpadcontent.net/.hidden/ppa/ubuntu/x":                        "",
		"ppa.launchpadcontent.net/a%2fb/ppa/ubuntu/x":                          "",
		"ppa.launchpadcontent.net//ppa/ubuntu/x":                               "",
		"ppa.launchpadcontent.net/" + strings.Repeat("a", 81) + "/p/ubuntu/x":  "",
		"fr.download.example.org:8443/repos/tools/x":                           "b/fr/tools https://fr.download.example.org:8443/repos/tools x",
		"a.b.download.example.org:8443/repos/tools/x":                          "",
		"_x.download.example.org:8443/repos/tools/x":                           "",
		"download.example.org:8443/repos/tools/x":                              "",
		"one.example.org/s/dists/x":                                            "c/s http://one.example.org/s dists/x",
		"one.example.org/s/deep/t/x":                                           "d/s/t http://one.example.org/s/deep/t x", // the longest
		"two.example.org/s/deep/t/x":                                           "e/s/t http://two.example.org/s/deep/t x",
		"fixed.example.org/x/y":                                                "",
	} {
		host, path, _ := strings.Cut(at, "/")
		got := ""
		if m, rest, ok := classes.At(host, path); ok {
			got = m.Name + " " + m.Upstream + " " + rest
			again, below, ok := classes.Named(m.Name + "/" + rest)
			if rest == "" {
				again, below, ok = classes.Named(m.Name)
			}
			if !ok || again.Name != m.Name || again.Upstream != m.Upstream || below != rest {
				t.Errorf("%s is %s, and that name is %s (%q)", at, m.Name, again.Name, below)
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
	for name, want := range map[string]bool{"a": false, "a/x": false, "a/x/y": true, "a/x/y/z": true, "a/x/..": false, "b/FR/x": false, "b/f.r/x": false, "h/x": false, "": false} {
		if _, _, ok := classes.Named(name); ok != want {
			t.Errorf("the name %q: %v", name, ok)
		}
	}
}

func TestClassChecks(t *testing.T) {
	for upstreams, want := range map[string]string{
		"http://e.example.org/**":                                   "one whole element",
		"http://e.example.org/a*/x":                                 "one whole element",
		"http://e*.example.org/":                                    "one whole",
		"http://*.org/x":                                            "last two labels",
		"http://*/x":                                                "last two labels",
		"http://e.example.*/x":                                      "last two labels",
		"ftp://e.example.org/*":                                     "not an http or https URL",
		"http://u:p@e.example.org/*":                                "write them under credentials",
		"http://e.example.org/*?x":                                  "has a query",
		"http://e.example.org/*/../x":                               "has no place",
		"http://e.example.org/*/*/*/*/*":                            "4 are the most",
		"http://e.example.org/* http://f.example.org/*/*":           "the values of the first",
		"http://e.example.org/* http://f.example.org/x":             "the values of the first",
		"http://e.example.org/*/x|http://e.example.org/y/*":         "could mean either",
		"http://e.example.org/*/x|https://e.example.org/*/x":        "could mean either",
		"http://*.e.example.org/x/y/*|http://z.e.example.org/*/y/z": "could mean either",
		"http://a.e.example.org/* http://b.e.example.org/*|http://*.e.example.org/x": "could mean either",
		// What one of them has more, or names otherwise, keeps them apart.
		"http://e.example.org/*/x|http://e.example.org/*/y":   "",
		"http://e.example.org/*|http://e.example.org/*/*":     "",
		"http://e.example.org/*|http://e.example.org:8080/*":  "",
		"http://e.example.org/*/x|http://e.example.org/y/x":   "", // the archive goes first
		"http://*.e.example.org/*|http://*.*.e.example.org/*": "",
	} {
		_, problems := classed(t, strings.Split(upstreams, "|")...)
		if want == "" && len(problems) > 0 || want != "" && !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("%s: %q, want %q", upstreams, problems, want)
		}
	}
	cfg := Default()
	class, below := NewArchive("ppa"), NewArchive("ppa/x/y")
	class.Upstream, class.SignedBy = "http://*.e.example.org/*", []string{"/k"}
	class.Credentials.User, class.Snapshot = "u", "http://s.example.org/{timestamp}"
	below.Upstream, below.SignedBy = "http://f.example.org/x", []string{"/k"}
	cfg.Archives = []Archive{class, below}
	c := lenientChecker(cfg)
	c.check()
	for _, want := range []string{"the name is one that an archive of the class ppa may have", "whatever host a client names", "snapshot: is not for a class"} {
		if !slices.ContainsFunc(c.problems, func(p finding) bool { return strings.Contains(p.message, want) }) {
			t.Errorf("no problem says %q: %v", want, c.problems)
		}
	}
}

func TestWithMembers(t *testing.T) {
	cfg := Default()
	class, own := NewArchive("ppa"), NewArchive("own")
	class.Upstream, class.Aliases = "http://p.example.org/*/*/ubuntu", []string{"http://q.example.org/*/*/ubuntu"}
	class.SignedBy, class.CheckEvery = []string{"/k"}, 7
	own.Upstream = "https://p.example.org/mine/own/ubuntu"
	own.Aliases = []string{"http://q.example.org/half/own/ubuntu"}
	cfg.Archives = []Archive{class, own}
	got := cfg.WithMembers([]string{"ppa/a/b", "ppa/mine/own", "ppa/half/own", "ppa/short", "gone/x", "ppa/a/b/more"})
	var names []string
	for _, a := range got.Archives {
		names = append(names, a.Name)
	}
	if !slices.Equal(names, []string{"own", "ppa/a/b", "ppa/half/own"}) || len(got.Classes) != 1 || len(cfg.Archives) != 2 {
		t.Fatal(names, got.Classes, cfg.Archives)
	}
	a, half := got.Archives[1], got.Archives[2]
	if a.CheckEvery != 7 || a.Led || !slices.Equal(a.SignedBy, class.SignedBy) || !slices.Equal(a.Aliases, []string{"http://q.example.org/a/b/ubuntu"}) || len(half.Aliases) != 0 {
		t.Errorf("%+v, %+v", a, half)
	}
}

// Two classes that a check lets stand side by side never claim one URL at one length, and a URL and a name always mean the
// same archive.
func FuzzClasses(f *testing.F) {
	f.Add("http://e.example.org/*/*/ubuntu", "http://e.example.org/x/*/ubuntu", "http://e.example.org/x/y/ubuntu/dists/z")
	f.Add("http://*.e.example.org/*", "http://a.*.example.org/b", "http://a.e.example.org/b/c")
	f.Add("https://e.example.org:8443/*", "http://e.example.org/*/*", "http://e.example.org:8443/a/b/c")
	f.Add("http://e.example.org/*", "http://e.example.org/a", "http://e.example.org/a//b")
	f.Fuzz(func(t *testing.T, one, two, at string) {
		if strings.ContainsAny(one+two, " |") {
			return
		}
		classes, problems := classed(t, one, two)
		u, err := url.Parse(at)
		if err != nil || len(problems) > 0 {
			return
		}
		host, path := u.Host, strings.Trim(u.Path, "/")
		m, rest, ok := classes.At(host, path)
		if !ok {
			return
		}
		if again, below, ok := classes.Named(strings.TrimSuffix(m.Name+"/"+rest, "/")); !ok || again.Name != m.Name || below != rest {
			t.Fatalf("%s is %s (%q), and that name is %s (%q)", at, m.Name, rest, again.Name, below)
		}
		root, err := url.Parse(m.Upstream)
		if err != nil || strings.Contains(m.Upstream, "*") {
			t.Fatalf("%s is at %q: %v", at, m.Upstream, err)
		}
		if again, _, ok := classes.At(root.Host, strings.Trim(root.Path, "/")); !ok || again.Name != m.Name {
			t.Fatalf("%s is %s, and its root %s is %s", at, m.Name, m.Upstream, again.Name)
		}
		var lengths []int
		for _, c := range classes {
			if _, below, ok := (Classes{c}).At(host, path); ok {
				lengths = append(lengths, len(below))
			}
		}
		if len(lengths) == 2 && lengths[0] == lengths[1] {
			t.Fatalf("%s and %s both have %s", one, two, at)
		}
	})
}

func TestForms(t *testing.T) {
	cfg := Default()
	for name, upstream := range map[string]string{"ppa": "http://ppa.example.org/*/*/ubuntu", "plain": "http://example.org/x"} {
		a := NewArchive(name)
		a.Upstream = upstream
		cfg.Archives = append(cfg.Archives, a)
	}
	_, classes := cfg.Split()
	if got := strings.Join(classes.Forms(), " "); got != "ppa/*/*" {
		t.Errorf("forms: %s", got)
	}
}
