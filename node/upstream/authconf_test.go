package upstream

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseAuthConf(t *testing.T) {
	entries, err := ParseAuthConf("auth.conf", []byte(`
# machine commented.example.org login no password no
machine example.org login apt password debian
machine https://Proto.example.org:8443/some/path
	login apt   # the rest of this line is hidden
	account ignored
	password #hash"quote
machine [2001:db8::1]:80/x login a password b
machine bare.example.org
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, strings.Join([]string{e.Scheme, e.Host, e.Port, e.Path, e.User, e.Password.Reveal()}, "|"))
	}
	want := []string{
		"|example.org|||apt|debian",
		`https|proto.example.org|8443|/some/path|apt|#hash"quote`,
		"|2001:db8::1|80|/x|a|b",
		"|bare.example.org||||",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestParseAuthConfErrors(t *testing.T) {
	for text, want := range map[string]string{
		"\nlogin s3cret":               `f:2: "login" stands before the first "machine"`,
		"machine a login b\npassword":  `f:2: nothing follows "password"`,
		"machine":                      `f:1: nothing follows "machine"`,
		"machine u:s3cret@example.org": `f:1: "machine" names a user`,
		"machine a:s3cret login b":     `f:1: "machine" has a port that is not a number`,
		"machine /path login b":        `f:1: "machine" names no host`,
		"machine ://a":                 `f:1: "machine" has an empty protocol`,
		"machine a login b password s3cret\nmachine \x00": `f:2: this is not a text file`,
	} {
		_, err := ParseAuthConf("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: error is %v, want %s", text, err, want)
		}
	}
}

// The examples of apt_auth.conf(5), and the edges around them.
func TestAuthEntryMatches(t *testing.T) {
	for _, tc := range []struct {
		machine, url string
		want         bool
	}{
		{"example.org", "https://example.org/debian/x", true},
		{"example.org/deb", "https://example.org/debian/x", true},
		{"example.org/debian", "https://example.org/debian/x", true},
		{"example.org/debian/", "https://example.org/debian/x", true},
		{"example.org:443", "https://example.org/debian/x", false},
		{"example.org/deb/", "https://example.org/debian/x", false},
		{"example.org/ubuntu", "https://example.org/debian/x", false},
		{"example.orga", "https://example.org/debian/x", false},
		{"example.net", "https://example.org/debian/x", false},

		{"example.org", "http://example.org/debian", false}, // no protocol means https
		{"http://example.org", "http://example.org/debian", true},
		{"http://example.org", "https://example.org/debian", false},
		{"https://example.org", "https://example.org/debian", true},
		{"example.org", "https://example.org:8443/debian", true},
		{"example.org:8443", "https://example.org:8443/debian", true},
		{"example.org:8443", "https://example.org:9443/debian", false},
		{"EXAMPLE.org", "https://example.ORG/", true},
		{"example.org", "https://sub.example.org/", false},
	} {
		entries, err := ParseAuthConf("f", []byte("machine "+tc.machine+" login a password b"))
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := !credentialsFor(entries, u).IsZero(); got != tc.want {
			t.Errorf("machine %s for %s: %v, want %v", tc.machine, tc.url, got, tc.want)
		}
	}
}

func TestReadAuthConf(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("auth.conf", "machine one.example.org login a password b")
	write("d/20-b.conf", "machine three.example.org login a password b")
	write("d/10-a.conf", "machine two.example.org login a password b")
	write("d/30-c.conf.dpkg-old", "machine")
	entries, err := ReadAuthConf(file, filepath.Join(dir, "absent"), filepath.Join(dir, "d"))
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for _, e := range entries {
		hosts = append(hosts, e.Host)
	}
	if got := strings.Join(hosts, " "); got != "one.example.org two.example.org three.example.org" {
		t.Errorf("read %s", got)
	}
	bad := write("bad.conf", "machine")
	if _, err := ReadAuthConf(bad); err == nil || !strings.HasPrefix(err.Error(), bad+":1:") {
		t.Errorf("error is %v", err)
	}
}

func FuzzParseAuthConf(f *testing.F) {
	f.Add([]byte("machine example.org login apt password debian"))
	f.Add([]byte("machine https://[::1]:80/x\n# c\nlogin a\npassword #b"))
	f.Add([]byte("machine a:b@c:d/e:f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ParseAuthConf("f", data)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Host == "" || strings.ContainsAny(e.Host, "/@") {
				t.Errorf("host %q", e.Host)
			}
			if e.Port != "" && strings.Trim(e.Port, "0123456789") != "" {
				t.Errorf("port %q", e.Port)
			}
			if e.Path != "" && e.Path[0] != '/' {
				t.Errorf("path %q", e.Path)
			}
			// What was read can be written and read again.
			if !e.Credentials.IsZero() && e.User != "" && !e.Password.IsZero() {
				host := e.Host
				if strings.Contains(host, ":") {
					host = "[" + host + "]"
				}
				again := AuthEntry{Scheme: e.Scheme, Host: host, Port: e.Port, Path: e.Path}
				second, err := ParseAuthConf("f", []byte(again.String()+" login "+e.User+" password "+e.Password.Reveal()))
				if err != nil || len(second) != 1 || second[0].String() != e.String() || second[0].Password.Reveal() != e.Password.Reveal() {
					t.Errorf("%s: read again as %v, %v", e, second, err)
				}
			}
		}
	})
}
