package archiveconf

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/aptmesh/aptmesh/node/upstream"
)

// metalink is an entry of the key `metalink`.
type metalink struct {
	// repository is the directory that it is for, with stars; "" for all.
	repository string
	url        string
}

// placeholder stands in the URL for what a star of the repository stands for.
var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// parseMetalink reads an entry: "URL", or "REPOSITORY URL".
func parseMetalink(entry string) (metalink, error) {
	var m metalink
	switch words := strings.Fields(entry); len(words) {
	case 1:
		m.url = words[0]
	case 2:
		m.repository, m.url = path.Clean(strings.Trim(words[0], "/")), words[1]
	default:
		return m, fmt.Errorf("%q is neither a URL, nor a repository and a URL", entry)
	}
	u, err := url.Parse(m.url)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil:
		return m, fmt.Errorf("%s is no https URL; a certificate has to vouch for a metalink", m.url)
	case strings.ContainsAny(u.Host, "{}*"):
		return m, errors.New("the host of a metalink is the same for all repositories")
	}
	stars := 0
	for element := range strings.SplitSeq(m.repository, "/") {
		switch {
		case element == "*":
			stars++
		case strings.Contains(element, "*") || element == "..":
			return m, fmt.Errorf("a * stands for a whole element of the path, not for a part of %q", element)
		}
	}
	for _, found := range placeholder.FindAllStringSubmatch(m.url, -1) {
		if n, err := strconv.Atoi(found[1]); err != nil || n < 1 || n > stars {
			return m, fmt.Errorf("%s stands for no * of the repository, which has %d", found[0], stars)
		}
	}
	return m, nil
}

// of is the URL for a repository; "" where the entry is not for it.
func (m metalink) of(dir string) string {
	if m.repository == "" {
		return m.url
	}
	elements, pattern := strings.Split(path.Clean(dir), "/"), strings.Split(m.repository, "/")
	if len(elements) != len(pattern) {
		return ""
	}
	var stars []string
	for i, p := range pattern {
		switch {
		case p == "*":
			stars = append(stars, url.QueryEscape(elements[i]))
		case p != elements[i]:
			return ""
		}
	}
	return placeholder.ReplaceAllStringFunc(m.url, func(found string) string {
		n, _ := strconv.Atoi(found[1 : len(found)-1])
		return stars[n-1]
	})
}

// Metalinks finds the metalink of a repository by its directory, "" for the archive itself. It is nil
// where the archive has none. The configuration was checked.
func (a Archive) Metalinks() (func(dir string) string, error) {
	if len(a.Metalink) == 0 {
		return nil, nil
	}
	all := make([]metalink, len(a.Metalink))
	for i, entry := range a.Metalink {
		var err error
		if all[i], err = parseMetalink(entry); err != nil {
			return nil, err
		}
	}
	return func(dir string) string {
		for _, m := range all {
			if at := m.of(dir); at != "" {
				return at
			}
		}
		return ""
	}, nil
}

// metalinks checks an archive for which metalinks vouch.
func (c *checker) metalinks(key string, a *Archive) {
	if a.Unsigned || a.TrustHTTPS || len(a.SignedBy) > 0 || len(a.UnsignedSuites) > 0 {
		c.Problem(key+".metalink", "stands in place of signed_by, trust_https, unsigned and unsigned_suites; keep one of them")
	}
	if a.Format != "rpm" {
		c.Problem(key+".metalink", "is for `format: rpm`; no other format has metalinks")
	}
	for i, entry := range a.Metalink {
		if _, err := parseMetalink(entry); err != nil {
			c.Problem(fmt.Sprintf("%s.metalink[%d]", key, i), "%v", err)
		}
	}
	c.File(key+".metalink_ca", a.MetalinkCA, func(name string) error { _, err := upstream.ReadRoots(name); return err })
}
