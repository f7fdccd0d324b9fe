package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// hooks are shell functions that the tests' framework gets; each calls this program again.
const hooks = `
# A node that has seen nothing, before what would otherwise meet an older state of the archive. What
# the tests say to their web server (/_config/) concerns no node.
aptmesh_fresh() {
	local ARG
	for ARG in "$@"; do
		case "$ARG" in */_config/*) return 0;; esac
	done
	for ARG in "$@"; do
		case "$ARG" in
		update|download-file)
			"$APTMESH_SUITE" hook fresh || msgdie 'aptmesh: no empty node'
			return 0;;
		esac
	done
}
`

// between puts a node before the web server whose port was just read. What the hook prints is
// evaluated: apt's proxy setting, or another APTHTTPPORT.
const between = `
		APTMESH_BETWEEN="$("$APTMESH_SUITE" hook between "$APTHTTPPORT" "$TMPWORKINGDIRECTORY")" || msgdie 'aptmesh: no node'
		eval "$APTMESH_BETWEEN"`

// edits are the changes of the framework of the tests: where, and what is put behind.
var edits = []struct {
	at    *regexp.Regexp
	after string
}{
	// The function through which the tests start every apt program.
	{regexp.MustCompile(`(?m)^runapt\(\) \{$`), "\n\taptmesh_fresh \"$@\""},
	// The web server has chosen its port.
	{regexp.MustCompile(`(?m)^\s*APTHTTPPORT="\$\(cat aptwebserver\.port\)"$`), between},
}

// editFramework returns the framework with a node in it.
func editFramework(text string) (string, error) {
	for _, e := range edits {
		found := e.at.FindAllStringIndex(text, -1)
		if len(found) != 1 {
			return "", fmt.Errorf("the framework of apt's tests has %d places like %q, not one: adapt edits to this version of apt", len(found), e.at)
		}
		end := found[0][1]
		text = text[:end] + e.after + text[end:]
	}
	at := edits[0].at.FindStringIndex(text)[0]
	return text[:at] + hooks[1:] + text[at:], nil
}

// editTests makes the copy of the tests that has a node between, unless an earlier run has made the
// same one, which may be in use.
func editTests(t aptTree) error {
	from, to := t.tests(mode{between: "direct"}), t.tests(mode{between: "proxy"})
	text, err := os.ReadFile(filepath.Join(from, "framework"))
	if err != nil {
		return err
	}
	edited, err := editFramework(string(text))
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(filepath.Join(to, "framework")); err == nil && string(have) == edited {
		return nil
	}
	cert, err := certificate()
	if err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(to), "new")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) // what is left of it
	copied := filepath.Join(fresh, "tests")
	for _, do := range []func() error{
		func() error { return os.CopyFS(copied, os.DirFS(from)) },
		func() error { return os.WriteFile(filepath.Join(copied, "framework"), []byte(edited), 0o755) },
		func() error { return os.WriteFile(filepath.Join(copied, "apt.pem"), cert, 0o644) },
		func() error { return os.RemoveAll(to) },
		func() error { return os.Rename(copied, to) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// certificate makes a key and a certificate for the tests' https server, in one PEM file. The tests'
// own certificate names its host in the common name alone; GnuTLS takes that, Go does not.
func certificate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4zero},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...), nil
}
