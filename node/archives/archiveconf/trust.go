package archiveconf

import (
	"fmt"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/keyrings"
)

// signatures checks that a keyring signs the archive, or that the configuration says that none does.
func (c *checker) signatures(key string, a *Archive) {
	if len(a.Metalink) > 0 {
		c.metalinks(key, a)
		return
	}
	if a.MetalinkCA != "" {
		c.Problem(key+".metalink_ca", "is for the servers of `metalink`, of which there is none")
	}
	if a.TrustHTTPS {
		c.trustsHTTPS(key, a)
		return
	}
	if a.Unsigned {
		if len(a.SignedBy) > 0 || len(a.UnsignedSuites) > 0 {
			c.Problem(key, "signed_by or unsigned_suites and `unsigned: true` contradict each other; drop one")
			return
		}
		c.Warning(key, "accepts anything its upstream sends, because of `unsigned: true`")
		return
	}
	for i, suite := range a.UnsignedSuites {
		c.Warning(fmt.Sprintf("%s.unsigned_suites[%d]", key, i), "accepts anything its upstream sends in %s", suite)
	}
	if len(a.SignedBy) == 0 && len(a.UnsignedSuites) == 0 {
		c.Problem(key+".signed_by", "is missing: the keyring that signs the archive%s, or a directory of keyrings; %s `unsigned: true` to accept it without any signature", keyringHint(a.MainURL(), ""), otherTrust(a.Format))
	}
	for i, entry := range a.SignedBy {
		entryKey := fmt.Sprintf("%s.signed_by[%d]", key, i)
		if strings.Contains(entry, "\n") && !keyrings.IsInline(entry) {
			c.Problem(entryKey, "is neither the path of a keyring nor an armoured key block, which begins with %s", keyrings.KeyBlock)
			continue
		}
		if c.NoFiles {
			continue
		}
		troubles, err := keyrings.Troubles(entry)
		if err != nil {
			c.Problem(entryKey, "%s", files.Trouble(entry, err, keyringHint(a.MainURL(), entry)))
		}
		for _, trouble := range troubles {
			c.Warning(entryKey, "%s", trouble)
		}
	}
}

// otherTrust says what stands in place of signed_by for a format whose archives often sign no index.
func otherTrust(format string) string {
	switch format {
	case "rpm":
		return "where only packages are signed, `trust_https: true` trusts the certificate of an https upstream, and `metalink` that of a metalink's server; or"
	case "pacman":
		return "where only packages are signed, `trust_https: true` trusts the certificate of an https upstream; or"
	}
	return "or"
}

// trustsHTTPS checks an archive for which the certificates of its upstreams vouch.
func (c *checker) trustsHTTPS(key string, a *Archive) {
	if a.Unsigned || len(a.SignedBy) > 0 || len(a.UnsignedSuites) > 0 {
		c.Problem(key+".trust_https", "stands in place of signed_by, unsigned and unsigned_suites; keep one of them")
	}
	for _, m := range a.Mirrors() {
		if !strings.HasPrefix(m.URL, "https://") && !strings.HasPrefix(m.URL, "mirror+https://") {
			c.Problem(key+".trust_https", "wants https upstreams, because a certificate has to vouch for what comes, and %s is none", m.URL)
		}
	}
}

// keyringHint says which keyring signs a well-known archive, and what has it. named is the keyring
// that the configuration names, "" for none: no path is said twice.
func keyringHint(url, named string) string {
	k, ok := aptconf.Lookup(url)
	if !ok {
		return ""
	}
	file := k.Keyring + "; "
	if k.Keyring == named {
		file = ""
	}
	return fmt.Sprintf(" (%sinstall the package %s, or copy the file from a host that has it)", file, k.Package)
}
