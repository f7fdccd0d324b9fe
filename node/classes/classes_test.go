package classes

import (
	"net/url"
	"strings"
	"testing"
)

// classed is the classes with these upstreams, each with its aliases behind spaces. They are named a, b and so on.
func classed(upstreams ...string) (classes Set, err error) {
	for i, u := range upstreams {
		first, aliases, _ := strings.Cut(u, " ")
		c, err := New(string(rune('a'+i)), first, strings.Fields(aliases))
		if err != nil {
			return nil, err
		}
		classes = append(classes, c)
	}
	return classes, nil
}

func TestAt(t *testing.T) {
	classes, err := classed(
		"http://ppa.launchpadcontent.net/*/*/ubuntu http://ppa.launchpad.net/*/*/ubuntu",
		"https://*.download.example.org:8443/repos/*",
		"http://one.example.org/*",
		"http://one.example.org/*/deep/*",
		"http://two.example.org/*/deep/*",
		"http://two.example.org/*")
	if err != nil {
		t.Fatal(err)
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
			got = m.Name + " " + m.URL + " " + rest
			again, below, ok := classes.Named(m.Name + "/" + rest)
			if rest == "" {
				again, below, ok = classes.Named(m.Name)
			}
			if !ok || again.Name != m.Name || again.URL != m.URL || below != rest {
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
		classes, err := classed(one, two)
		u, failed := url.Parse(at)
		if err != nil || failed != nil || classes[0].Overlaps(classes[1]) {
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
		root, err := url.Parse(m.URL)
		if err != nil || strings.Contains(m.URL, "*") {
			t.Fatalf("%s is at %q: %v", at, m.URL, err)
		}
		if again, _, ok := classes.At(root.Host, strings.Trim(root.Path, "/")); !ok || again.Name != m.Name {
			t.Fatalf("%s is %s, and its root %s is %s", at, m.Name, m.URL, again.Name)
		}
		var lengths []int
		for _, c := range classes {
			if _, below, ok := (Set{c}).At(host, path); ok {
				lengths = append(lengths, len(below))
			}
		}
		if len(lengths) == 2 && lengths[0] == lengths[1] {
			t.Fatalf("%s and %s both have %s", one, two, at)
		}
	})
}

// What has no star is one archive: as a class it would have a member of no name.
func TestNoStar(t *testing.T) {
	if _, err := classed("http://e.example.org"); err == nil || !strings.Contains(err.Error(), "no *") {
		t.Errorf("%v", err)
	}
}

func TestForms(t *testing.T) {
	classes, err := classed("http://ppa.example.org/*/*/ubuntu", "http://*.example.org/x")
	if got := strings.Join(classes.Forms(), " "); err != nil || got != "a/*/* b/*" {
		t.Errorf("forms: %s, %v", got, err)
	}
}
