package front

import "testing"

func TestConnectList(t *testing.T) {
	l, err := newConnectList([]string{"changelogs.example.org:443", "10.0.0.7:8443", "*.Docker.com:443", "*:8080", "[::1]:443"})
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"changelogs.example.org:443":  "named",
		"CHANGELOGS.example.org.:443": "named",
		"changelogs.example.org:80":   "",
		"10.0.0.7:8443":               "named",
		"[::1]:443":                   "named",
		"download.docker.com:443":     "allowed",
		"a.b.docker.com.:443":         "allowed",
		"docker.com:443":              "",
		".docker.com:443":             "",
		"evildocker.com:443":          "",
		"download.docker.com:22":      "",
		"anything.example:8080":       "allowed",
		"10.0.0.7:8080":               "", // a pattern means names
		"[fd00::1]:8080":              "",
		"docker.com":                  "",
	} {
		got := ""
		switch named, allowed := l.allows(target); {
		case named:
			got = "named"
		case allowed:
			got = "allowed"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	for _, bad := range []string{"example.org", ":443", "example.org:", "*", "a.*.org:443", "*x.org:443", "*.*.org:443", "*.:443"} {
		if _, err := newConnectList([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
