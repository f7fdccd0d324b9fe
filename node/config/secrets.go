package config

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
)

// maxKeyring bounds a keyring file in bytes; that of Debian's developers has 30 MB.
const maxKeyring = 64 << 20

// keyBlock begins a public key written in place of a keyring's path.
const keyBlock = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// IsInlineKey reports whether an entry of signed_by is an armoured key block
// rather than the path of a keyring.
func IsInlineKey(entry string) bool { return strings.HasPrefix(strings.TrimSpace(entry), keyBlock) }

// Keyring reads every entry of signed_by and returns all their keys together; nil
// where it has none.
func (a Archive) Keyring() (*aptmeta.Keyring, error) {
	if len(a.SignedBy) == 0 {
		return nil, nil
	}
	rings := make([]*aptmeta.Keyring, 0, len(a.SignedBy))
	for _, entry := range a.SignedBy {
		ring, err := readKeyring(entry)
		if err != nil {
			return nil, fmt.Errorf("archive %s: signed_by: %w", a.Name, err)
		}
		rings = append(rings, ring)
	}
	return aptmeta.MergeKeyrings(rings...).WithWeakKeys(a.WeakKeys), nil
}

// readKeyring reads one entry of signed_by.
func readKeyring(entry string) (*aptmeta.Keyring, error) {
	if IsInlineKey(entry) {
		return aptmeta.ReadKeyring("in the configuration", []byte(entry))
	}
	data, err := ReadBounded(entry, maxKeyring)
	if err != nil {
		return nil, err
	}
	return aptmeta.ReadKeyring(entry, data)
}

// ReadBounded reads a whole file that is not expected to be longer than max bytes.
func ReadBounded(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s is longer than %s", name, Size(max))
	}
	return data, nil
}

// readAuthorities reads a PEM file of certificates of CAs.
func readAuthorities(file string) (*x509.CertPool, error) {
	pem, err := ReadBounded(file, maxKeyring)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in the form of PEM", file)
	}
	return pool, nil
}
