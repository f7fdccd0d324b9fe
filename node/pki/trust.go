package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The identity of the nodes of a cluster: a certificate for each node for transfers and calls,
// and shared keys for gossip.

// gossipKeyBytes is the length of a gossip key: AES-256.
const gossipKeyBytes = 32

// maxGossipKeys bounds the keys in one file: two during a rotation, and room for
// one that was never finished.
const maxGossipKeys = 8

// expirySoon is when a certificate that ends is worth a warning.
const expirySoon = 30 * 24 * time.Hour

// ReadGossipKeys reads a file of gossip keys, base64, one per line: the first
// encrypts, all decrypt. Empty lines and lines that begin with "#" mean nothing. No
// error repeats a key.
func ReadGossipKeys(file string) ([][]byte, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(k) != gossipKeyBytes {
			return nil, fmt.Errorf("line %d of %s is not a key: %d bytes as base64, as `openssl rand -base64 %d` prints them",
				number, file, gossipKeyBytes, gossipKeyBytes)
		}
		if slices.ContainsFunc(keys, func(other []byte) bool { return bytes.Equal(other, k) }) {
			return nil, fmt.Errorf("line %d of %s repeats a key", number, file)
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("%s holds no key", file)
	case len(keys) > maxGossipKeys:
		return nil, fmt.Errorf("%s holds %d keys; %d are enough for any rotation", file, len(keys), maxGossipKeys)
	}
	return keys, nil
}

// Files are the PEM files of a node, as in clusterconf.Settings.
type Files struct{ CA, Cert, Key string }

// names lists them.
func (f Files) names() []string { return []string{f.CA, f.Cert, f.Key} }

// Identity is what the files of a node hold, proven to fit together.
type Identity struct {
	cert  *tls.Certificate // with its Leaf
	roots *x509.CertPool
}

// Expires is the end of the node's certificate.
func (t *Identity) Expires() time.Time { return t.cert.Leaf.NotAfter }

// Expiry says what is wrong with the certificate's time; "" if nothing is. It is never an
// error: a node whose certificate has expired still serves hosts, alone.
func (t *Identity) Expiry(now time.Time) string {
	leaf := t.cert.Leaf
	const renew = "issue a new one with `aptmesh cluster renew`"
	switch left := leaf.NotAfter.Sub(now); {
	case now.Before(leaf.NotBefore):
		return fmt.Sprintf("is not valid before %s; until then no other node talks to this one", leaf.NotBefore.UTC().Format(time.RFC3339))
	case left <= 0:
		return fmt.Sprintf("expired at %s, so no other node talks to this one; %s", leaf.NotAfter.UTC().Format(time.RFC3339), renew)
	case left < expirySoon:
		return fmt.Sprintf("expires in %d days, at %s; %s", int(left.Hours()/24), leaf.NotAfter.UTC().Format(time.RFC3339), renew)
	}
	return ""
}

// FileError is what is wrong with one of the files; key is its key in the section
// `cluster`.
type FileError struct {
	Key string
	Err error
}

func (e *FileError) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// Read reads the files of the node of that name. The error is a *FileError.
func Read(files Files, name string) (*Identity, error) {
	roots, err := readRoots(files.CA)
	if err != nil {
		return nil, &FileError{"ca", err}
	}
	certPEM, err := readFile(files.Cert)
	if err != nil {
		return nil, &FileError{"cert", err}
	}
	keyPEM, err := readFile(files.Key)
	if err != nil {
		return nil, &FileError{"key", err}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, &FileError{"cert", fmt.Errorf("%s and %s cannot be used: %w", files.Cert, files.Key, err)}
	}
	t := &Identity{cert: &pair, roots: roots}
	if err := t.prove(name); err != nil {
		return nil, &FileError{"cert", fmt.Errorf("%s %w", files.Cert, err)}
	}
	return t, nil
}

// readRoots reads the certificates of the authorities: one, or two while one takes
// the place of the other.
func readRoots(file string) (*x509.CertPool, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for found := false; ; found = true {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			if !found {
				return nil, fmt.Errorf("%s holds no certificate as PEM", file)
			}
			return roots, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s; only certificates belong there", file, strings.ToLower(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("%s: the certificate of %q is not that of an authority, which signs others", file, cert.Subject.CommonName)
		}
		roots.AddCert(cert)
	}
}

// prove checks that the certificate is that of the node of that name, signed by the
// authority, and good for both ends of a connection. Whether it is of today is no
// part of that; expiry tells.
func (t *Identity) prove(name string) error {
	leaf := t.cert.Leaf
	if !slices.Contains(leaf.DNSNames, name) {
		whose := "names no node"
		if len(leaf.DNSNames) > 0 {
			whose = "is that of " + strings.Join(leaf.DNSNames, ", ")
		}
		return fmt.Errorf("%s, but this node is called %s: set `name`, or issue a certificate with `aptmesh cluster add %s`", whose, name, name)
	}
	between := x509.NewCertPool()
	for _, der := range t.cert.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("has a chain that cannot be read: %w", err)
		}
		between.AddCert(cert)
	}
	at := time.Now()
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	} else if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: t.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
			return errors.New("must be usable by a server and by a client (extended key usage): a node is both")
		}
		if err != nil {
			return fmt.Errorf("is not signed by the authority in `ca`: %w", err)
		}
	}
	return nil
}

// Credentials are the files of a node as they are now: a change is taken up without
// a reload. Files that cannot be used are logged, once, and change nothing. Safe for
// concurrent use.
type Credentials struct {
	name string
	log  *slog.Logger

	mu     sync.Mutex
	files  Files
	held   *Identity     // the last that was good
	looked time.Time     // when the files were last looked at
	stamps []os.FileInfo // of the files then; nil for one that is not there
}

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// NewCredentials reads the PEM files of the node of that name.
func NewCredentials(files Files, name string, log *slog.Logger) (*Credentials, error) {
	c := &Credentials{name: name, log: log}
	if err := c.Use(files); err != nil {
		return nil, err
	}
	return c, nil
}

// Use puts other files in the place of those in use, as a reload does. After an
// error it goes on with the previous ones.
func (c *Credentials) Use(files Files) error {
	stamps := stampsOf(files)
	t, err := Read(files, c.name)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files, c.held, c.stamps, c.looked = files, t, stamps, time.Now()
	c.warnOfExpiry()
	return nil
}

// Certificate is the certificate this node shows, as peers.TLS wants it.
func (c *Credentials) Certificate() (*tls.Certificate, error) { return c.current().cert, nil }

// Roots are the authorities that sign the other nodes, as peers.TLS wants them.
func (c *Credentials) Roots() (*x509.CertPool, error) { return c.current().roots, nil }

// Expires is the end of the certificate in use.
func (c *Credentials) Expires() time.Time { return c.current().Expires() }

// Collectors returns the metrics of the credentials.
func (c *Credentials) Collectors() []prometheus.Collector {
	return []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_cluster_certificate_expires_timestamp_seconds",
		Help: "End of this node's certificate, in seconds since 1970.",
	}, func() float64 { return float64(c.Expires().Unix()) })}
}

// current looks whether the files have changed, and returns what is in force.
func (c *Credentials) current() *Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < lookEvery {
		return c.held
	}
	c.looked = now
	// Taken before the files are read: a change between the two shows the next
	// time.
	stamps := stampsOf(c.files)
	if slices.EqualFunc(stamps, c.stamps, sameFile) {
		return c.held
	}
	c.stamps = stamps
	t, err := Read(c.files, c.name)
	if err != nil {
		c.log.Error("the cluster's certificates have changed and cannot be used; the previous ones stay in force", "error", err)
		return c.held
	}
	c.held = t
	c.log.Info("the cluster's certificates were read again", "expires", t.Expires())
	c.warnOfExpiry()
	return c.held
}

// warnOfExpiry needs mu.
func (c *Credentials) warnOfExpiry() {
	if why := c.held.Expiry(time.Now()); why != "" {
		c.log.Warn("this node's certificate " + why)
	}
}

func stampsOf(files Files) []os.FileInfo {
	var stamps []os.FileInfo
	for _, name := range files.names() {
		info, err := os.Stat(name)
		if err != nil {
			info = nil // reading it returns the reason
		}
		stamps = append(stamps, info)
	}
	return stamps
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// maxFile bounds a file of keys or certificates in bytes.
const maxFile = 64 << 10

// readFile reads a whole file of keys or certificates.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is longer than %d KiB", name, maxFile>>10)
	}
	return text, err
}
