package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

func TestReadGossipKeys(t *testing.T) {
	one, other := strings.Repeat("AAAA", 10)+"AAA=", strings.Repeat("AAAA", 10)+"AAE="
	for _, tt := range []struct {
		name, text string
		keys       int
		want       string // of the error
	}{
		{"one", one, 1, ""},
		{"two, with noise", "\n# old\r\n  " + one + " \r\n\n# new\n" + other + "\n", 2, ""},
		{"none", "# nothing\n", 0, "holds no key"},
		{"empty", "", 0, "holds no key"},
		{"short", "# a\n" + one[4:], 0, "line 2 of"},
		{"hexadecimal", strings.Repeat("ab", 32), 0, "line 1 of"},
		{"not base64", "?" + one[1:], 0, "openssl rand -base64 32"},
		{"twice", one + "\n" + one, 0, "line 2 of"},
		{"far too long", strings.Repeat("#", maxFile+1), 0, "is longer than"},
	} {
		file := filepath.Join(t.TempDir(), "gossip.key")
		rewrite(t, file, []byte(tt.text))
		keys, err := ReadGossipKeys(file)
		if len(keys) != tt.keys || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d keys, %v", tt.name, len(keys), err)
		}
		if err != nil && (strings.Contains(err.Error(), one) || strings.Contains(err.Error(), one[4:])) {
			t.Errorf("%s: the error shows a key: %v", tt.name, err)
		}
	}
	if _, err := ReadGossipKeys(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// Files that do not fit together, or not this node, are refused in words that say
// which and why.
func TestClusterFilesThatDoNotFit(t *testing.T) {
	other := newTestCluster(t, "ams1")
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string // of the problem; "" for none
		warn  string // of the warning
	}{
		{"good", func(*testing.T, string) {}, "", ""},
		{"that of another node", func(t *testing.T, dir string) {
			for _, f := range []string{certFile, keyFile} {
				copyFile(t, filepath.Join(dir, "fra1", f), filepath.Join(dir, "ams1", f))
			}
		}, "cert: DIR/ams1/cert.pem is that of fra1, but this node is called ams1: set `name`, or issue a certificate with `aptmesh cluster add ams1`", ""},
		{"of no node", func(t *testing.T, dir string) {
			sign(t, dir, "ams1", func(c *x509.Certificate) { c.DNSNames = nil })
		}, "names no node", ""},
		{"a wildcard", func(t *testing.T, dir string) {
			sign(t, dir, "ams1", func(c *x509.Certificate) { c.DNSNames = []string{"*"} })
		}, "is that of *", ""},
		{"another authority", func(t *testing.T, dir string) {
			copyFile(t, filepath.Join(other, authorityFile), filepath.Join(dir, "ams1", authorityFile))
		}, "cert: DIR/ams1/cert.pem is not signed by the authority in `ca`: x509: certificate signed by unknown authority", ""},
		{"the key of another", func(t *testing.T, dir string) {
			copyFile(t, filepath.Join(dir, "fra1", keyFile), filepath.Join(dir, "ams1", keyFile))
		}, "cannot be used: tls: private key does not match public key", ""},
		{"a client only", func(t *testing.T, dir string) {
			sign(t, dir, "ams1", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		}, "must be usable by a server and by a client", ""},
		{"a server only", func(t *testing.T, dir string) {
			sign(t, dir, "ams1", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		}, "must be usable by a server and by a client", ""},
		{"no authority at all", func(t *testing.T, dir string) {
			copyFile(t, filepath.Join(dir, "ams1", certFile), filepath.Join(dir, "ams1", authorityFile))
		}, `ca: DIR/ams1/ca.pem: the certificate of "ams1" is not that of an authority`, ""},
		{"a key for an authority", func(t *testing.T, dir string) {
			copyFile(t, filepath.Join(dir, authorityKeyFile), filepath.Join(dir, "ams1", authorityFile))
		}, "holds a private key; only certificates belong there", ""},
		{"an empty authority", func(t *testing.T, dir string) {
			rewrite(t, filepath.Join(dir, "ams1", authorityFile), nil)
		}, "ca: DIR/ams1/ca.pem holds no certificate as PEM", ""},
		{"no key", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "ams1", keyFile)); err != nil {
				t.Fatal(err)
			}
		}, "key: open DIR/ams1/key.pem: no such file", ""},
		{"no gossip key", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "ams1", gossipKeyFile)); err != nil {
				t.Fatal(err)
			}
		}, "open DIR/ams1/gossip.key: no such file", ""},
		{"two authorities", func(t *testing.T, dir string) {
			ours, err := os.ReadFile(filepath.Join(dir, authorityFile))
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := os.ReadFile(filepath.Join(other, authorityFile))
			if err != nil {
				t.Fatal(err)
			}
			rewrite(t, filepath.Join(dir, "ams1", authorityFile), append(theirs, ours...))
		}, "", ""},
		{"ends soon", func(t *testing.T, dir string) {
			sign(t, dir, "ams1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(10*24*time.Hour + time.Minute) })
		}, "", "expires in 10 days, at "},
		{"has ended", func(t *testing.T, dir string) {
			sign(t, dir, "ams1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		}, "", "so no other node talks to this one; issue a new one with `aptmesh cluster renew`"},
		{"not yet", func(t *testing.T, dir string) {
			sign(t, dir, "ams1", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
		}, "", "is not valid before "},
		{"an open key", func(t *testing.T, dir string) { openToAll(t, filepath.Join(dir, "ams1", keyFile)) },
			"", "every user may read key.pem"},
		{"an open gossip key", func(t *testing.T, dir string) { openToAll(t, filepath.Join(dir, "ams1", gossipKeyFile)) },
			"", "every user may read gossip.key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := newTestCluster(t, "fra1", "ams1")
			tt.spoil(t, dir)
			home := filepath.Join(dir, "ams1")
			var said []string
			for _, f := range []string{gossipKeyFile, keyFile} {
				if info, err := os.Stat(filepath.Join(home, f)); err == nil && info.Mode().Perm()&0o004 != 0 {
					said = append(said, "every user may read "+f)
				}
			}
			_, err := ReadGossipKeys(filepath.Join(home, gossipKeyFile))
			id, failed := Read(Files{filepath.Join(home, authorityFile), filepath.Join(home, certFile), filepath.Join(home, keyFile)}, "ams1")
			err = errors.Join(err, failed)
			if failed == nil && id.Expiry(time.Now()) != "" {
				said = append(said, id.Expiry(time.Now()))
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), dir, "DIR"), tt.want)) {
				t.Errorf("error: %v\nwant: %s", err, tt.want)
			}
			if all := strings.Join(said, "\n"); tt.warn == "" && all != "" || !strings.Contains(all, tt.warn) {
				t.Errorf("warnings: %s\nwant: %s", all, tt.warn)
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, to, text)
}

func openToAll(t *testing.T, file string) {
	t.Helper()
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Certificates that change are taken up within a second, together with their keys;
// files that are no use change nothing, and are complained of once.
func TestCredentialsFollowTheFiles(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir := newTestCluster(t, "ams1", "fra1") // of the time of this bubble
		home := filepath.Join(dir, "ams1")
		ca, cert, key := filepath.Join(home, authorityFile), filepath.Join(home, certFile), filepath.Join(home, keyFile)
		var log bytes.Buffer
		c, err := NewCredentials(Files{ca, cert, key}, "ams1", slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		log.Reset()
		serial := func() string {
			t.Helper()
			pair, err := c.Certificate()
			if err != nil {
				t.Fatal(err)
			}
			if pool, err := c.Roots(); err != nil || pool == nil {
				t.Fatal(pool, err)
			}
			return pair.Leaf.SerialNumber.String()
		}
		first := serial()
		time.Sleep(lookEvery)
		if serial() != first || log.Len() > 0 {
			t.Errorf("files that have not changed are read again: %s", &log)
		}

		if _, err := RenewNodes(dir, []string{"ams1"}); err != nil {
			t.Fatal(err)
		}
		if serial() != first {
			t.Error("the files are looked at more than once a second")
		}
		time.Sleep(lookEvery)
		second := serial()
		if second == first || !strings.Contains(log.String(), "were read again") {
			t.Errorf("new files are not taken up: %s", &log)
		}

		// Half of a change: the certificate of the next pair with the key of this one.
		log.Reset()
		good, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, cert, []byte("nonsense"))
		for range 3 {
			time.Sleep(lookEvery)
			if serial() != second {
				t.Error("files that are no use take the place of good ones")
			}
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d complaints: %s", n, &log)
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookEvery)
		if serial() != second || strings.Count(log.String(), "level=ERROR") != 2 {
			t.Errorf("after the key has gone: %s", &log)
		}
		rewrite(t, cert, good)
		if _, err := RenewNodes(dir, []string{"ams1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookEvery)
		third := serial()
		if third == second {
			t.Errorf("good files are not taken up after bad ones: %s", &log)
		}

		// A reload may name other files; those of another node are refused.
		elsewhere := filepath.Join(dir, "fra1")
		if err := c.Use(Files{filepath.Join(elsewhere, authorityFile), filepath.Join(elsewhere, certFile), filepath.Join(elsewhere, keyFile)}); err == nil || serial() != third {
			t.Errorf("the files of another node are taken: %v", err)
		}
		moved := filepath.Join(dir, "moved")
		if err := os.Rename(home, moved); err != nil {
			t.Fatal(err)
		}
		if err := c.Use(Files{filepath.Join(moved, authorityFile), filepath.Join(moved, certFile), filepath.Join(moved, keyFile)}); err != nil || serial() != third {
			t.Errorf("other files: %v", err)
		}
		log.Reset()
		time.Sleep(lookEvery)
		if serial() != third || log.Len() > 0 {
			t.Errorf("the old files are still looked at: %s", &log)
		}
	})
}

func TestCredentialsNeedGoodFiles(t *testing.T) {
	dir := newTestCluster(t, "ams1")
	file := func(name string) string { return filepath.Join(dir, "ams1", name) }
	var wrong *FileError
	if _, err := NewCredentials(Files{file(authorityFile), file(certFile), file(keyFile)}, "fra1", silent); !errors.As(err, &wrong) || wrong.Key != "cert" {
		t.Errorf("the certificate of another node: %v", err)
	}
	c, err := NewCredentials(Files{file(authorityFile), file(certFile), file(keyFile)}, "ams1", silent)
	if err != nil {
		t.Fatal(err)
	}
	if until := c.Expires(); time.Until(until) < 700*24*time.Hour || len(c.Collectors()) != 1 {
		t.Errorf("expires %v", until)
	}
}

// A file that was put in the place of another is another one, even with the size and
// the time of the first, as a copy that keeps times has.
func TestSameFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	stamp := func() os.FileInfo {
		t.Helper()
		at := time.Unix(1, 0)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
		return stampsOf(Files{CA: file})[0]
	}
	rewrite(t, file, []byte("one"))
	first := stamp()
	if !sameFile(first, stamp()) || sameFile(first, nil) || sameFile(nil, first) || !sameFile(nil, nil) {
		t.Error("a file is not the same as itself, or as none")
	}
	rewrite(t, file, []byte("two"))
	if sameFile(first, stamp()) {
		t.Error("a file in the place of another passes for that")
	}
}
