package front

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

func TestLocate(t *testing.T) {
	routes, err := newRoutes(testArchives(t), nil, []string{"apt-cache.example.org"}, func() []string { return []string{"192.0.2.7:80", "[::]:3142"} })
	if err != nil {
		t.Fatal(err)
	}
	const deb = "pool/main/g/g++/g++_1~2_amd64.deb"
	web := &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 80}
	cache := &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 3142}
	for _, tt := range []struct {
		target string
		local  net.Addr
		want   string // a location, or a status and a part of the sentence
	}{
		// mapped
		{"/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"/ubuntu/pool/main/g/g%2b%2b/g++_1%7e2_amd64.deb", cache, "ubuntu/" + deb},
		{"/ubuntu/pool/main/g/g%2B%2B/g%2b+_1%7E2_amd64.deb", cache, "ubuntu/" + deb},
		{"//ubuntu//pool/main/./g/g++/g++_1~2_amd64.deb", cache, "ubuntu/" + deb},
		{"/vendor/x/y", cache, "vendor/x/y"},
		{"/vendor/tools/x/y", cache, "vendor/tools/x/y"},
		{"/vendor/toolsx/y", cache, "vendor/toolsx/y"},
		{"/debian/dists/sid/InRelease", cache, "debian/dists/sid/InRelease"},
		// proxy
		{"http://archive.ubuntu.com/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"HTTP://ARCHIVE.Ubuntu.com:80/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"http://archive.ubuntu.com./ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"http://bob:pw@archive.ubuntu.com/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"http://archive.ubuntu.com//ubuntu//" + deb, cache, "ubuntu/" + deb},
		{"http://de.archive.ubuntu.com/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"http://a.b.archive.ubuntu.com/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"http://ports.example.org:8080/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"http://vendor.example.com:8080/apt/x", cache, "vendor/x"},
		{"http://deb.example.org/debian/x", cache, "debian/x"},
		{"https://deb.example.org:443/debian/x", cache, "debian/x"},
		{"http://deb.example.org/debian-security/x", cache, "security/x"},
		{"http://tools.example.com/x/y", cache, "vendor/tools/x/y"},
		{"http://people.example.com/~user/apt/x", cache, "tilde/x"},
		{"http://people.example.com/%7euser/apt/x", cache, "tilde/x"},
		// upstream host as prefix
		{"/archive.ubuntu.com/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"/de.archive.ubuntu.com/ubuntu/" + deb, cache, "ubuntu/" + deb},
		{"/vendor.example.com:8080/apt/x", cache, "vendor/x"},
		{"/vendor.example.com%3a8080/apt/x", cache, "vendor/x"},
		// HTTPS///
		{"http://HTTPS///esm.example.com/infra/ubuntu/" + deb, cache, "esm/" + deb},
		{"http://https///esm.example.com:443/infra/ubuntu/" + deb, cache, "esm/" + deb},
		{"/HTTPS///deb.example.org/debian/x", cache, "debian/x"},
		{"http://node:3142/HTTPS///deb.example.org/debian/x", cache, "debian/x"},
		// the node itself, through a proxy request
		{"http://anything:3142/ubuntu/x", cache, "ubuntu/x"},
		{"http://192.0.2.7:3142/ubuntu/x", cache, "ubuntu/x"},
		{"http://[2001:db8::1]:3142/ubuntu/x", cache, "ubuntu/x"},
		{"http://anything:3142/ubuntu/x", nil, "ubuntu/x"},
		{"http://apt-cache.example.org/ubuntu/x", web, "ubuntu/x"},
		{"http://APT-cache.example.org.:80/ubuntu/x", web, "ubuntu/x"},
		{"http://192.0.2.7/ubuntu/x", web, "ubuntu/x"},
		{"http://anything:3142/archive.ubuntu.com/ubuntu/x", cache, "ubuntu/x"},
		{"http://anything:3142/", cache, "406 page"},
		{"http://mirror.example.net/ubuntu/x", web, "403 no open proxy"},
		{"http://anything:3143/ubuntu/x", cache, "403 no open proxy"},
		// another server on this machine
		{"http://apt-cache.example.org:8910/ubuntu/x", cache, "403 no open proxy"},
		{"http://apt-cache.example.org:8910/ubuntu/x", nil, "403 no open proxy"},
		{"http://192.0.2.7:8910/ubuntu/x", cache, "403 no open proxy"},
		{"http://apt-cache.example.org:3142/ubuntu/x", web, "ubuntu/x"},
		{"http://mirror.example.net/ubuntu/x", nil, "403 archives:"},
		// refused
		{"/", cache, "406 page"},
		{"//", cache, "406 page"},
		{"/?x", cache, "406 page"},
		{"/nothing/x", cache, "404 archives:"},
		{"/favicon.ico", cache, "404 known are debian, esm, security, tilde, ubuntu, vendor, vendor/tools"},
		{"/ubuntu", cache, "404 directory"},
		{"/ubuntu/", cache, "404 directory"},
		{"/ubuntu/dists/", cache, "404 directory"},
		{"/ubuntu/dists/noble//", cache, "404 directory"},
		{"http://archive.ubuntu.com/ubuntu/", cache, "404 directory"},
		{"/archive.ubuntu.com/other/x", cache, "404 archives:"},
		{"/archive.ubuntu.com", cache, "404 archives:"},
		{"/ubuntux/x", cache, "404 archives:"},
		{"http://archive.ubuntu.com/ubuntux/x", cache, "403 archives:"},
		{"http://archive.ubuntu.com/", cache, "403 archives:"},
		{"http://archive.ubuntu.com", cache, "403 archives:"},
		{"http://archive.ubuntu.com:8080/ubuntu/x", cache, "403 archives:"},
		{"http://evilarchive.ubuntu.com/ubuntu/x", cache, "403 archives:"},
		{"http://archive.ubuntu.com@evil.example/ubuntu/x", cache, "403 archives:"},
		{"http://HTTPS///evil.example/ubuntu/x", cache, "403 archives:"},
		{"/HTTPS///evil.example/ubuntu/x", cache, "403 archives:"},
		{"http://HTTPS", cache, "403 archives:"},
		{"/ubuntu/pool/x/../y.deb", cache, "ubuntu/pool/y.deb"},
		{"http://archive.ubuntu.com/ubuntu/pool/x/%2e%2e/y.deb", cache, "ubuntu/pool/y.deb"},
		{"/ubuntu/pool/a#b.deb", cache, "ubuntu/pool/a#b.deb"},
		{"http://archive.ubuntu.com/ubuntu/pool/a#b.deb", cache, "ubuntu/pool/a#b.deb"},
		{"/ubuntu/../etc/passwd", cache, "404 no archive"},
		{"/ubuntu/%2e%2e/x", cache, "404 no archive"},
		{"/ubuntu/../debian/x", cache, "debian/x"},
		{"http://archive.ubuntu.com/ubuntu/../other/x", cache, "403 archives:"},
		{"http://archive.ubuntu.com/../ubuntu/x", cache, "400 above"},
		{"/ubuntu/../../x", cache, "400 above"},
		{"/ubuntu/..;/x", cache, "400 semicolon"},
		{"/ubuntu/a/%2e%2e%3bx/y", cache, "400 semicolon"},
		{"/ubuntu/%00", cache, "400 path"},
		{"/ubuntu/a%0ab", cache, "400 path"},
		{"/ubuntu/a%zz", cache, "400 path"},
		{"/ubuntu/a?b=c", cache, "ubuntu/a"}, // a query says who asks, not for what
		{"/ubuntu/a?/b/../c", cache, "ubuntu/a"},
		{"http://archive.ubuntu.com/ubuntu/a?token", cache, "ubuntu/a"},
		{"/ubuntu/a%3Fb", cache, "ubuntu/a?b"}, // a part of the name
		{"/ubuntu/?b", cache, "404 directory"},
		{"/?b", cache, "406 its own page"},
		{"ftp://archive.ubuntu.com/ubuntu/x", cache, "400 neither"},
		{"http:///ubuntu/x", cache, "400 neither"},
		{"*", cache, "400 neither"},
		{"", cache, "400 neither"},
	} {
		loc, err := routes.locate(tt.target, tt.local)
		if err == nil {
			if loc.String() != tt.want {
				t.Errorf("%s: %s, want %s", tt.target, loc, tt.want)
			}
			continue
		}
		var r *refusal
		status, part, _ := strings.Cut(tt.want, " ")
		if !errors.As(err, &r) || statusText(r.status) != status || !strings.Contains(r.text, part) {
			t.Errorf("%s: %v, want %s", tt.target, err, tt.want)
		}
	}
}

func statusText(status int) string {
	var b [3]byte
	for i := range b {
		b[2-i] = byte('0' + status%10)
		status /= 10
	}
	return string(b[:])
}

func TestLocateArchiveNamedAsHost(t *testing.T) {
	routes, err := newRoutes([]Archive{
		{Name: "one", Upstream: mustURL(t, "http://example.org/a")},
		{Name: "two", Upstream: mustURL(t, "https://example.org/a")},
		{Name: "three", Upstream: mustURL(t, "http://example.org/a/b")},
	}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"http://example.org/a/x":         "one/x", // the scheme settles it
		"http://HTTPS///example.org/a/x": "two/x",
		"http://example.org/a/b/x":       "three/x", // the longest base
		"http://HTTPS///example.org/a/b": "two/b",   // "three" would be a directory; see below
	} {
		loc, err := routes.locate(target, nil)
		if target == "http://HTTPS///example.org/a/b" {
			if err == nil {
				t.Errorf("%s: %s, want the directory of three", target, loc)
			}
			continue
		}
		if err != nil || loc.String() != want {
			t.Errorf("%s: %v %v, want %s", target, loc, err, want)
		}
	}
}

func TestConfigurationErrors(t *testing.T) {
	archive := func(name, upstream string, aliases ...string) Archive {
		return Archive{Name: name, Upstream: mustURL(t, upstream), Aliases: aliases}
	}
	for want, cfg := range map[string]Config{
		"cannot be an archive's name":    {Archives: []Archive{archive("a//b", "http://example.org/")}},
		"name: it is the first part":     {Archives: []Archive{archive("", "http://example.org/")}},
		"use plain path segments":        {Archives: []Archive{archive("HTTPS", "http://example.org/")}},
		"configured twice":               {Archives: []Archive{archive("a", "http://example.org/"), archive("a", "http://example.com/")}},
		"has no upstream":                {Archives: []Archive{{Name: "a"}}},
		"not an http or https URL":       {Archives: []Archive{archive("a", "ftp://example.org/")}},
		"aliases: \"http://*\"":          {Archives: []Archive{archive("a", "http://example.org/", "http://*")}},
		"be one label of an alias's":     {Archives: []Archive{archive("a", "http://example.org/", "http://x*.org/")}},
		"and not the last":               {Archives: []Archive{archive("a", "http://example.org/", "http://x.*/")}},
		"only be one label":              {Archives: []Archive{archive("a", "http://example.org/", "http://*.x.*.org/")}},
		"could mean either":              {Archives: []Archive{archive("a", "http://example.org/x"), archive("b", "http://example.com/", "http://EXAMPLE.org:80/x/")}},
		"connect_allow: \"example.org\"": {Connect: []string{"example.org"}},
		"log: format":                    {AccessLog: &lockedBuffer{}, AccessFormat: "xml"},
	} {
		if _, err := New(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %v", err)
		}
	}
}

// "*" as the first label is any number of labels, elsewhere exactly one; what says more of the host goes first.
func TestAliasPatterns(t *testing.T) {
	routes, err := newRoutes([]Archive{
		{Name: "debian", Upstream: mustURL(t, "http://mirror.example.org/d"), Aliases: []string{"http://ftp.*.debian.org/debian", "http://*.cdn.debian.org/debian"}},
		{Name: "broad", Upstream: mustURL(t, "http://mirror.example.org/b"), Aliases: []string{"http://*.debian.org/debian"}},
	}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"http://ftp.de.debian.org/debian/x":       "debian/x",
		"http://FTP.de.Debian.org/debian/x":       "debian/x",
		"http://ftp.a.b.debian.org/debian/x":      "broad/x",
		"http://ftp.debian.org/debian/x":          "broad/x",
		"http://a.fastly.cdn.debian.org/debian/x": "debian/x",
		"http://other.debian.org/debian/x":        "broad/x",
		"http://debian.org/debian/x":              "",
		"http://ftp.de.debian.org/other/x":        "",
	} {
		got := ""
		if loc, err := routes.locate(target, nil); err == nil {
			got = loc.String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

func TestApplyRoutes(t *testing.T) {
	d := startFront(t)
	if d.Explain("/new/x").Would == nil {
		t.Fatal("an archive nobody configured")
	}
	if err := d.Apply(Rules{Archives: []Archive{{Name: "new", Upstream: mustURL(t, "http://new.example.org/"), Format: fakeFormat{}}}}); err != nil {
		t.Fatal(err)
	}
	if e := d.Explain("http://new.example.org/x"); e.Would != nil || e.Location.String() != "new/x" {
		t.Fatal(e.Location, e.Would)
	}
	if err := d.Apply(Rules{Archives: []Archive{{Name: "broken"}}}); err == nil {
		t.Fatal("a broken configuration was taken")
	}
	if e := d.Explain("/new/x"); e.Would != nil || e.Location.String() != "new/x" {
		t.Fatal("the configuration before is lost:", e.Location, e.Would)
	}
}

func FuzzLocate(f *testing.F) {
	for _, seed := range []string{
		"/ubuntu/dists/noble/InRelease", "http://archive.ubuntu.com/ubuntu/x", "http://HTTPS///esm.example.com/infra/ubuntu/x",
		"/HTTPS///deb.example.org/debian/x", "http://[::1]:3142/ubuntu/x", "/ubuntu/%7e%2b", "http://a@b:c@d:80:90/x", "http://:80/", "///", "http://*.archive.ubuntu.com/ubuntu/a",
	} {
		f.Add(seed)
	}
	routes, err := newRoutes(testArchives(f), nil, []string{"apt-cache.example.org"}, func() []string { return []string{"192.0.2.7:80", "[::]:3142"} })
	if err != nil {
		f.Fatal(err)
	}
	local := &net.TCPAddr{IP: net.IPv6loopback, Port: 3142}
	f.Fuzz(func(t *testing.T, target string) {
		loc, err := routes.locate(target, local)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || r.status < 400 || http.StatusText(r.status) == "" {
				t.Fatalf("not a refusal: %#v", err)
			}
			if a := answerRefusal(r); strings.IndexFunc(a.text, func(r rune) bool { return r < ' ' || r > '~' }) != len(a.text)-1 {
				t.Fatalf("not one line of ASCII: %q", a.text)
			}
			return
		}
		if _, known := routes.names[loc.Archive]; !known || loc.Path == "" {
			t.Fatalf("%q: %#v", target, loc)
		}
		// What is found has one canonical spelling, and that is found again.
		again, err := routes.locate("/"+loc.Archive+"/"+proto.EscapePath(loc.Path), local)
		if err == nil && again != loc && !strings.HasPrefix(again.Archive, loc.Archive+"/") {
			t.Fatalf("%q: %v, and then %v", target, loc, again)
		}
		if err != nil {
			t.Fatalf("%q: %v, and then %v", target, loc, err)
		}
	})
}

// TestMirrors: each URL that an archive is fetched from means it, in every form, with
// its own base path.
func TestMirrors(t *testing.T) {
	archives := []Archive{
		{
			Name: "ubuntu", Upstream: mustURL(t, "http://archive.ubuntu.com/ubuntu"), Aliases: []string{"http://old.example.org/ubuntu"},
			Mirrors: []*url.URL{
				mustURL(t, "http://archive.ubuntu.com/ubuntu"), // the first is Upstream
				mustURL(t, "https://bob:hunter2@mirror.example.org/pub/mirrors/ubuntu/"),
				mustURL(t, "http://mirror.example.org:8080"),
			},
		},
		{Name: "debian", Upstream: mustURL(t, "http://mirror.example.org/Debian"), Mirrors: []*url.URL{mustURL(t, "http://mirror.example.org/Debian")}},
	}
	routes, err := newRoutes(archives, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"/ubuntu/pool/x": "ubuntu/pool/x",
		"http://archive.ubuntu.com/ubuntu/pool/x":                     "ubuntu/pool/x",
		"http://mirror.example.org/pub/mirrors/ubuntu/pool/x":         "ubuntu/pool/x",
		"https://mirror.example.org/pub/mirrors/ubuntu/pool/x":        "ubuntu/pool/x",
		"/mirror.example.org/pub/mirrors/ubuntu/pool/x":               "ubuntu/pool/x",
		"http://HTTPS///mirror.example.org/pub/mirrors/ubuntu/pool/x": "ubuntu/pool/x",
		"http://mirror.example.org:8080/pool/x":                       "ubuntu/pool/x",
		"/mirror.example.org:8080/pool/x":                             "ubuntu/pool/x",
		"http://mirror.example.org/Debian/pool/x":                     "debian/pool/x",
		"http://old.example.org/ubuntu/pool/x":                        "ubuntu/pool/x",
		"http://mirror.example.org/ubuntu/pool/x":                     "",
		"http://mirror.example.org/pub/mirrors/ubuntux/x":             "",
		"http://mirror.example.org/debian/pool/x":                     "", // paths are not host names
	} {
		loc, err := routes.locate(target, nil)
		if want == "" && err == nil || want != "" && (err != nil || loc.String() != want) {
			t.Errorf("%s: %v %v, want %q", target, loc, err, want)
		}
	}
	archives[1].Mirrors = append(archives[1].Mirrors, archives[0].Mirrors[1])
	_, err = newRoutes(archives, nil, nil, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "archives: ubuntu: upstreams: ") || !strings.Contains(err.Error(), "the archive debian has this URL too") || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

// The URL that hosts are given means the node, whatever port is mapped to the one that it listens at.
func TestPublicURLIsOwn(t *testing.T) {
	ready, err := newRules(Rules{Archives: testArchives(t), PublicURL: "http://cache.example.org:8080"}, nil, func() []string { return []string{":3142"} })
	if err != nil {
		t.Fatal(err)
	}
	if loc, err := ready.routes.locate("http://cache.example.org:8080/ubuntu/x", nil); err != nil || loc.String() != "ubuntu/x" {
		t.Errorf("the public URL: %v, %v", loc, err)
	}
	if loc, err := ready.routes.locate("http://cache.example.org:8081/ubuntu/x", nil); err == nil {
		t.Errorf("another port of that machine: %v", loc)
	}
}
