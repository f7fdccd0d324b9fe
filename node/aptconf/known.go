package aptconf

import (
	"net/url"
	"slices"
	"strings"
)

// Known is an archive of Debian or Ubuntu: its plain name, the URLs that all mean it, and the
// keyring that signs it.
type Known struct {
	Name string
	// URLs are all its addresses, the usual one first. A host may begin with "*.", which stands for any
	// labels; any other label "*" stands for one.
	URLs []string
	// Keyring is the file that holds its keys, and Package the package that
	// installs it.
	Keyring string
	Package string
}

// UbuntuKeyring holds the keys of all archives of Ubuntu, and debianKeyring those of Debian.
const (
	UbuntuKeyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
	debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// known lists the archives that get a plain name whatever else is configured. A country mirror (de.archive.ubuntu.com,
// ftp.de.debian.org) is the main archive. The security archives are of their own, because they have updates before the
// mirrors do. archive.debian.org is none of them: it has the releases that the mirrors have dropped.
var known = []Known{
	{"ubuntu", []string{"http://archive.ubuntu.com/ubuntu", "http://*.archive.ubuntu.com/ubuntu"}, UbuntuKeyring, "ubuntu-keyring"},
	{"ubuntu-security", []string{"http://security.ubuntu.com/ubuntu"}, UbuntuKeyring, "ubuntu-keyring"},
	{"ubuntu-ports", []string{"http://ports.ubuntu.com/ubuntu-ports", "http://ports.ubuntu.com"}, UbuntuKeyring, "ubuntu-keyring"},
	{"debian", append(debianOrg("debian", "deb", "*.deb", "ftp", "ftp.*", "ftp2.*", "http.*", "httpredir"),
		"http://http.debian.net/debian", "http://cdn.debian.net/debian", "http://cloudfront.debian.net/debian",
	), debianKeyring, "debian-archive-keyring"},
	{"debian-security", append(debianOrg("debian-security", "security", "deb", "*.deb", "ftp.*", "security-cdn", "httpredir"),
		"http://security.debian.org", "http://cloudfront.debian.net/debian-security",
	), debianKeyring, "debian-archive-keyring"},
}

// debianOrg are the URLs of a directory at hosts of debian.org.
func debianOrg(dir string, hosts ...string) (urls []string) {
	for _, host := range hosts {
		urls = append(urls, "http://"+host+".debian.org/"+dir)
	}
	return urls
}

// UbuntuArchives returns what is served where the machine names no archive.
func UbuntuArchives() []Known { return slices.Clone(known[:3]) }

// UbuntuLists is the host of Ubuntu's own lists of mirrors, one for each country and
// one that looks where the request comes from.
const UbuntuLists = "mirrors.ubuntu.com"

// Lookup finds the archive of Debian or Ubuntu that a base URL, or the URL of a list of
// mirrors, means.
func Lookup(base string) (Known, bool) {
	if IsMirrorList(base) {
		list, err := ParseListURL(base)
		if err == nil && list.URL != nil && list.URL.Host == UbuntuLists {
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

// Named finds the archive of Debian or Ubuntu of that name.
func Named(name string) (Known, bool) {
	i := slices.IndexFunc(known, func(k Known) bool { return k.Name == name })
	if i < 0 {
		return Known{}, false
	}
	return known[i], true
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
	return MatchHost(host, b.Host)
}

// MatchHost compares a host with a pattern: "*." at the beginning stands for one label or more, any other
// label "*" for one.
func MatchHost(pattern, host string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return host == pattern
	}
	middle, ok := strings.CutPrefix(host, before)
	if ok {
		middle, ok = strings.CutSuffix(middle, after)
	}
	return ok && middle != "" && (before == "" || !strings.Contains(middle, "."))
}
