package node

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
)

// Credentials are either a user with a password or a bearer token; each secret is
// written in place or in a file of its own.
type Credentials struct {
	User         string `yaml:"user"`
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	Bearer       Secret `yaml:"bearer"`
	BearerFile   string `yaml:"bearer_file"`
}

// maxKeyring bounds a keyring file in bytes; that of Debian's developers has 30 MB.
const maxKeyring = 64 << 20

// keyBlock begins a public key written in place of a keyring's path.
const keyBlock = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// IsInlineKey reports whether an entry of signed_by is an armoured key block
// rather than the path of a keyring.
func IsInlineKey(entry string) bool { return strings.HasPrefix(strings.TrimSpace(entry), keyBlock) }

// Keyring reads every entry of signed_by and returns all their keys together; nil
// where the archive is unsigned.
func (a ArchiveConfig) Keyring() (*aptmeta.Keyring, error) {
	if a.Unsigned {
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
	return aptmeta.MergeKeyrings(rings...), nil
}

// readKeyring reads one entry of signed_by.
func readKeyring(entry string) (*aptmeta.Keyring, error) {
	if IsInlineKey(entry) {
		return aptmeta.ReadKeyring("in the configuration", []byte(entry))
	}
	data, err := readBounded(entry, maxKeyring)
	if err != nil {
		return nil, err
	}
	return aptmeta.ReadKeyring(entry, data)
}

// IsZero reports whether there are no credentials.
func (c Credentials) IsZero() bool { return c == Credentials{} }

// Resolve reads the secrets that stand in files and returns what to send: a user
// and password, or a bearer token. Leading and trailing space of a file is not
// part of its secret.
func (c Credentials) Resolve() (user string, password, bearer Secret, err error) {
	password, err = secretOrFile(c.Password, c.PasswordFile)
	if err != nil {
		return "", "", "", fmt.Errorf("reading password_file: %w", err)
	}
	bearer, err = secretOrFile(c.Bearer, c.BearerFile)
	if err != nil {
		return "", "", "", fmt.Errorf("reading bearer_file: %w", err)
	}
	return c.User, password, bearer, nil
}

// maxSecret bounds a file that holds a secret in bytes.
const maxSecret = 64 << 10

func secretOrFile(inPlace Secret, file string) (Secret, error) {
	if file == "" {
		return inPlace, nil
	}
	b, err := readBounded(file, maxSecret)
	if err != nil {
		return "", err
	}
	return Secret(bytes.TrimSpace(b)), nil
}

// readBounded reads a whole file that is not expected to be longer than max bytes.
func readBounded(name string, max int64) ([]byte, error) {
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
	pem, err := readBounded(file, maxKeyring)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in the form of PEM", file)
	}
	return pool, nil
}
