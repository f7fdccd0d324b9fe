package aptconf

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// parseBase reads a URI of a source entry and returns it as an archive's base. The
// error says why aptmesh cannot serve it.
func parseBase(uri string) (base *url.URL, private bool, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, false, errors.New("is not a URL")
	}
	if inner := unwrap(u); inner != nil {
		u = inner
	}
	switch u.Scheme {
	case "http", "https":
	case "cdrom", "file", "copy":
		return nil, false, errors.New("is on this machine; only http and https archives are served")
	default:
		if strings.HasPrefix(u.Scheme, "mirror") {
			return nil, false, errors.New("is a list of mirrors, and one cannot stand within another")
		}
		return nil, false, fmt.Errorf("has the scheme %q; only http and https archives are served", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, false, errors.New("names no host")
	}
	if u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return nil, false, errors.New("has a query or fragment, which an archive cannot have")
	}

	return Canonical(u), u.User != nil, nil
}

// cachePort is where apt-cacher-ng listens, and this node.
const cachePort = "3142"

// unwrap returns the URL of an archive that another cache is asked for by way of its own URL, as found in the sources of
// hosts that used one: http://HTTPS///host/path, http://cache:3142/host/path and http://cache:3142/HTTPS///host/path.
// nil for any other URL.
func unwrap(u *url.URL) *url.URL {
	path := u.EscapedPath()
	switch {
	case u.Scheme != "http":
		return nil
	case strings.EqualFold(u.Host, "https") && strings.HasPrefix(path, "///"):
		path = "/HTTPS" + path
	case u.Port() != cachePort:
		return nil
	}
	scheme, rest := "http", strings.TrimLeft(path, "/")
	if word, after, _ := strings.Cut(rest, "/"); strings.EqualFold(word, "https") {
		scheme, rest = "https", strings.TrimLeft(after, "/")
	}
	// A name without a dot is that of an archive in the cache's own configuration.
	host, _, _ := strings.Cut(rest, "/")
	if name, _, _ := strings.Cut(host, ":"); !strings.Contains(strings.Trim(name, "."), ".") {
		return nil
	}
	inner, err := url.Parse(scheme + "://" + rest)
	if err != nil || inner.Hostname() == "" {
		return nil
	}
	return inner
}

// ParseRoot reads the URL of an archive's root. It says what is wrong with it, except for stars.
func ParseRoot(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("is not an http or https URL with a host, such as http://archive.ubuntu.com/ubuntu")
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, fmt.Errorf("%s: port %q is not a number from 0 to 65535", s, port)
		}
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("%s holds a user or password; write them under credentials", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%s has a query or fragment, which the URL of an archive cannot have", s)
	case strings.ContainsAny(s, " \t\n"):
		return nil, fmt.Errorf("%q has a space, which no URL has; suites and components have keys and places of their own", s)
	case slices.Contains(strings.Split(u.Path, "/"), ".."):
		return nil, fmt.Errorf(`%s: ".." has no place in the URL of an archive`, s)
	}
	return Canonical(u), nil
}

// Canonical returns the one spelling of an archive's base URL: lower-case host,
// without the port its scheme implies, without empty segments or a trailing slash,
// and without credentials, query and fragment.
func Canonical(u *url.URL) *url.URL {
	return &url.URL{Scheme: strings.ToLower(u.Scheme), Host: canonicalHost(u), Path: cleanPath(u.Path)}
}

// canonicalHost is the host in lower case, without the port its scheme implies.
func canonicalHost(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || (u.Scheme == "http" && port == "80") || (u.Scheme == "https" && port == "443") {
		return host
	}
	return host + ":" + port
}

// cleanPath drops empty and "." segments and trailing slashes: to an archive they
// make no difference, and apt's users write them freely.
func cleanPath(p string) string {
	var b strings.Builder
	for s := range strings.SplitSeq(p, "/") {
		if s != "" && s != "." {
			b.WriteByte('/')
			b.WriteString(s)
		}
	}
	return b.String()
}

func withoutScheme(u string) string {
	_, rest, _ := strings.Cut(u, "://")
	return rest
}

// userinfo matches the credentials of a URL, in text that may not parse as one.
var userinfo = regexp.MustCompile(`//[^/\s@]*@`)

// redact takes the credentials out of a URI.
func redact(uri string) string { return userinfo.ReplaceAllString(uri, "//***@") }

// redactWords is redact for a whole line.
func redactWords(line string) string { return redact(line) }

func isKeyBlock(s string) bool {
	return strings.Contains(s, "-----BEGIN PGP PUBLIC KEY BLOCK-----")
}

// fingerprint is a full fingerprint, as apt wants it; the mark "!" excludes subkeys.
var fingerprint = regexp.MustCompile(`^[0-9A-Fa-f]{40}!?$`)

func isFingerprint(s string) bool { return fingerprint.MatchString(s) }
