package config

import (
	"strings"
	"testing"
)

// Values that mean nothing are refused, each at its key.
func TestValuesThatMeanNothing(t *testing.T) {
	for text, want := range map[string]string{
		"connect_allow: ['10.0.0.0/8:443']": "connect_allow[0]", "connect_allow: ['x:0']": "connect_allow[0]", "connect_allow: ['*.:1']": "connect_allow[0]",
		"connect_allow: ['*..com:443']": "connect_allow[0]", "connect_allow: ['a b:443']": "connect_allow[0]", "connect_allow: ['-:1']": "connect_allow[0]",
		"connect_allow: ['*.*.com:443']": "connect_allow[0]", "connect_allow: [':443']": "connect_allow[0]",
		"connect_allow: ['example.org:443', '*.example.org:443', '*:443', 'example.org.:443', '[2001:db8::1]:443', '192.0.2.1:80']": "",
		"cluster: {name: x, insecure: true, seeds: ['http://ams1']}":                                                                "is a URL; write the host",
		"archives: {a: {upstream: 'http://example.org/a', unsigned: true, max_archives: 5}}":                                        "archives.a.max_archives: is for a class",
		"archives: {a: {upstream: 'http://ppa.example.org/*/a', unsigned: true, max_archives: 5}}":                                  "",
	} {
		cfg, d := decode("f", []byte(text))
		c := lenientChecker(cfg)
		c.check()
		got := ""
		for _, f := range c.Problems {
			if f.Key != "archives" {
				got += f.Message + "\n"
			}
		}
		if len(d.Problems) > 0 || !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q; %v", text, got, want, d.Problems)
		}
	}
}

// Whoever brings a file of apt-cacher-ng is led to the page about it.
func TestKeysOfAptCacherNG(t *testing.T) {
	_, d := decode("f", []byte("CacheDir: /var/cache/apt-cacher-ng\nPort: 3142\nRemap-debrep: file:deb_mirrors.gz\n"))
	if len(d.Problems) != 3 {
		t.Fatal(d.Problems)
	}
	for _, p := range d.Problems {
		if !strings.Contains(p.Message, "docs/coming-from.md") {
			t.Error(p)
		}
	}
}
