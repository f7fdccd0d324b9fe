package archiveconf

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/keyrings"
)

// New returns the archive of that name with every default set.
func New(name string) Archive {
	a := keys.New[Archive]()
	a.Name = name
	return a
}

// NewMirror returns an upstream with every default set and no URL.
func NewMirror() Mirror { return keys.New[Mirror]() }

// Formats are the formats that an archive may have.
func Formats() []string {
	sf, _ := reflect.TypeFor[Archive]().FieldByName("Format")
	return strings.Split(sf.Tag.Get("check"), "|")
}

// Names are the names of the archives.
func (all Archives) Names() (names []string) {
	for _, a := range all {
		names = append(names, a.Name)
	}
	return names
}

// MarshalYAML is of the archives in the order of the file.
func (a Archives) MarshalYAML() (any, error) {
	var all yaml.MapSlice
	for _, archive := range a {
		all = append(all, yaml.MapItem{Key: archive.Name, Value: archive})
	}
	return all, nil
}

// MarshalYAML writes the URL alone where that says it all.
func (m Mirror) MarshalYAML() (any, error) {
	if keys.IsShort(m) {
		return m.URL, nil
	}
	type plain Mirror
	return plain(m), nil
}

// Mirrors returns what the archive is fetched from, in the order of the file and
// with lists of mirrors as they stand there; none only where the configuration was
// not checked.
func (a Archive) Mirrors() []Mirror {
	if a.Upstream == "" {
		return a.Upstreams
	}
	only := NewMirror()
	only.URL, only.Credentials, only.Led = a.Upstream, a.Credentials, a.Led
	return []Mirror{only}
}

// MainURL is the upstream to name where there is room for one: the first.
func (a Archive) MainURL() string {
	if mirrors := a.Mirrors(); len(mirrors) > 0 {
		return mirrors[0].URL
	}
	return ""
}

// MirrorURLs are the roots of all mirrors that the configuration names itself, in
// its order: without those that only a list knows.
func (a Archive) MirrorURLs() []string {
	var urls []string
	for _, m := range a.Mirrors() {
		if !aptconf.IsMirrorList(m.URL) {
			urls = append(urls, m.URL)
		}
	}
	return urls
}

// Keyring reads every entry of signed_by and returns all their keys together; nil
// where it has none.
func (a Archive) Keyring() (*pgp.Keyring, error) {
	ring, err := keyrings.Read(a.SignedBy)
	switch {
	case err != nil:
		return nil, fmt.Errorf("archive %s: signed_by: %w", a.Name, err)
	case ring == nil:
		return nil, nil
	}
	leftToGnuPG := a.Format != "apt" && a.Format != "" // by the clients
	return ring.WithWeakKeys(a.WeakKeys).WithSHA1(a.WeakKeys && leftToGnuPG).WithExpiredKeys(leftToGnuPG), nil
}

// Restricted reports whether only some clients may read the archive.
func (a Archive) Restricted() bool { return len(a.Allow) > 0 || len(a.Deny) > 0 }

// hasCredentials reports whether any upstream of the archive gets credentials of this node: its
// files are not for everybody.
func (a Archive) hasCredentials() bool {
	for _, m := range a.Mirrors() {
		if !m.Credentials.IsZero() || m.TLS.Cert != "" {
			return true
		}
	}
	return false
}

// acceptOlder is Archive.AcceptOlder where it is left out and clients take an older index: longer
// than the mirrors of an archive differ while they are synchronised, in most cases.
const acceptOlder = 15 * time.Minute

// AcceptsOlderAfter is how long all mirrors must show an older index until it is taken; 0 is never.
// apt goes on with the newer one that it has (pkgAcqMetaBase::VerifyVendor in acquire-item.cc);
// librepo, libzypp and libalpm compare no dates.
func (a *Archive) AcceptsOlderAfter() time.Duration {
	switch {
	case a.AcceptOlder != nil:
		return *a.AcceptOlder
	case a.Format == "apt" || a.Format == "":
		return 0
	}
	return acceptOlder
}
