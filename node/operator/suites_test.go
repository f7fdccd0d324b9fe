package operator

import (
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
)

func TestSplitSuite(t *testing.T) {
	class := archiveconf.New("ppa")
	class.Upstream = "http://ppa.example.org/*/*/ubuntu"
	named := func(names ...string) (all []archiveconf.Archive) {
		for _, name := range names {
			all = append(all, archiveconf.New(name))
		}
		return all
	}
	cfg := &config.Config{Archives: named("ubuntu", "vendor", "vendor/tools", "ppa/a/b"), Classes: []archiveconf.Archive{class}}
	const here = "he archives here are ubuntu, vendor, vendor/tools, ppa/a/b, ppa/*/*"
	for name, want := range map[string]string{
		"ubuntu/noble":              "ubuntu noble",
		"ubuntu/dists/noble/x":      "ubuntu dists/noble/x",
		"ubuntu/noble/":             "ubuntu noble/",
		"ubuntu/":                   "ubuntu ./",
		"vendor/tools/stable":       "vendor/tools stable",
		"vendor/toolsy":             "vendor toolsy",
		"ppa/a/b/noble":             "ppa/a/b noble",
		"ubuntu":                    "ubuntu is an archive, and no suite: write ARCHIVE/SUITE, such as ubuntu/noble, or ubuntu/ if it is a flat repository",
		"ubunto/noble":              "no archive here has a suite ubunto/noble; did you mean ubuntu/noble? T" + here,
		"vendro/tools/dists/stable": "no archive here has a suite vendro/tools/dists/stable; did you mean vendor/tools/dists/stable? T" + here,
		"debian/bookworm":           "no archive here has a suite debian/bookworm: write ARCHIVE/SUITE, such as ubuntu/noble; t" + here,
		"noble":                     "no archive here has a suite noble: write ARCHIVE/SUITE, such as ubuntu/noble; t" + here,
		"":                          "no archive here has a suite : write ARCHIVE/SUITE, such as ubuntu/noble; t" + here,
		"ppa/x/y/noble":             "no host has asked for the archive ppa/x/y of the class ppa yet; the first request of a host reads it from upstream",
	} {
		archive, suite, err := splitSuite(name, cfg)
		got := archive + " " + suite
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
	}
	if _, _, err := splitSuite("ubuntu/noble", &config.Config{}); err == nil || !strings.HasSuffix(err.Error(), "; the configuration has none") {
		t.Error(err)
	}
}
