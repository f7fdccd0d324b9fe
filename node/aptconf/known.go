package aptconf

import (
	"net/url"
	"slices"
	"strings"
)

// Known is an archive of Ubuntu: its plain name, the URLs that all mean it, and the
// keyring that signs it. Debian's archives have no host of their own that every
// machine uses; they take their names from their paths.
type Known struct {
	Name string
	// URLs are all its addresses, the usual one first; hosts may begin with "*.".
	URLs []string
	// Keyring is the file that holds its keys, and Package the package that
	// installs it.
	Keyring string
	Package string
}

// UbuntuKeyring holds the keys of all archives of Ubuntu.
const UbuntuKeyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"

// known lists the archives that get a plain name whatever else is configured. A
// country mirror of Ubuntu (de.archive.ubuntu.com) is the main archive; the
// security archive is one of its own, for it has updates before the mirrors do.
var known = []Known{
	{"ubuntu", []string{"http://archive.ubuntu.com/ubuntu", "http://*.archive.ubuntu.com/ubuntu"}, UbuntuKeyring, "ubuntu-keyring"},
	{"ubuntu-security", []string{"http://security.ubuntu.com/ubuntu"}, UbuntuKeyring, "ubuntu-keyring"},
	{"ubuntu-ports", []string{"http://ports.ubuntu.com/ubuntu-ports", "http://ports.ubuntu.com"}, UbuntuKeyring, "ubuntu-keyring"},
}

// UbuntuArchives returns what is served where the machine names no archive.
func UbuntuArchives() []Known { return slices.Clone(known) }

// ubuntuLists is the host of Ubuntu's own lists of mirrors, one for each country and
// one that looks where the request comes from.
const ubuntuLists = "mirrors.ubuntu.com"

// Lookup finds the archive of Ubuntu that a base URL, or the URL of a list of
// mirrors, means.
func Lookup(base string) (Known, bool) {
	if IsMirrorList(base) {
		list, err := ParseListURL(base)
		if err == nil && list.URL != nil && list.URL.Host == ubuntuLists {
			return known[0], true
		}
		return Known{}, false
	}
	for _, k := range known {
		if slices.ContainsFunc(k.URLs, func(pattern string) bool { return matches(pattern, base) }) {
			return k, true
		}
	}
	return Known{}, false
}

// aliasesFor returns the other URLs of the archive, for one whose base is used.
func (k Known) aliasesFor(base string) []string {
	var others []string
	for _, u := range k.URLs {
		if withoutScheme(u) != withoutScheme(base) {
			others = append(others, u)
		}
	}
	return others
}

// matches compares a base URL with a pattern; the scheme makes no difference.
func matches(pattern, base string) bool {
	b, err := url.Parse(base)
	if err != nil {
		return false
	}
	host, path, _ := strings.Cut(withoutScheme(pattern), "/")
	if strings.Trim(b.Path, "/") != path {
		return false
	}
	if suffix, ok := strings.CutPrefix(host, "*"); ok {
		return strings.HasSuffix(b.Host, suffix)
	}
	return b.Host == host
}
