package rpm

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// root is a URL of the archive, without its scheme.
type root struct{ host, path string }

// roots are the URLs of the archive, the longest path first. Publishers list packages with a base
// of their own (createrepo_c --baseurl), and clients then ask there and nowhere else:
// LrDownloadTarget.baseurl in librepo.
type roots []root

// newRoots reads URLs. What is none cannot be a base either.
func newRoots(urls []string) (all roots) {
	for _, at := range urls {
		if r, ok := readRoot(at); ok {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b root) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), strings.Compare(a.host+a.path, b.host+b.path))
	})
	return slices.Compact(all)
}

// readRoot reads a URL. Hosts reach an archive by http and by https, so both mean the same.
func readRoot(at string) (root, bool) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return root{}, false
	}
	path := strings.Trim(u.Path, "/")
	if path != "" {
		if path, err = proto.CleanPath(path); err != nil {
			return root{}, false
		}
	}
	host := strings.ToLower(u.Hostname())
	if port := u.Port(); port != "" && port != "80" && port != "443" {
		host += ":" + port
	}
	return root{host, path}, true
}

// names are the URLs as text, always in the same order.
func (rs roots) names() []string {
	all := make([]string, len(rs))
	for i, r := range rs {
		all[i] = r.host + "/" + r.path
	}
	return all
}

// dir is the directory of the archive that a base means; false if it lies outside.
func (rs roots) dir(base string) (string, bool) {
	at, ok := readRoot(base)
	if !ok {
		return "", false
	}
	for _, r := range rs {
		switch {
		case r.host != at.host:
		case r.path == "" || r.path == at.path:
			return strings.TrimPrefix(strings.TrimPrefix(at.path, r.path), "/"), true
		case strings.HasPrefix(at.path, r.path+"/"):
			return at.path[len(r.path)+1:], true
		}
	}
	return "", false
}

// within is the path below the repository's directory of a file with a base; false if it lies
// outside.
func (rs roots) within(suite proto.Suite, base, path string) (string, bool) {
	dir, ok := rs.dir(base)
	switch {
	case !ok:
		return "", false
	case dir == suite.Dir:
		return path, true
	case suite.Dir == "":
		return dir + "/" + path, true
	}
	below, ok := strings.CutPrefix(dir, suite.Dir+"/")
	return below + "/" + path, ok
}

// splitURL is a location with its base: that of a location which is a URL is all but the file's name.
func splitURL[T string | []byte](base, location T) (_, path T) {
	at := string(location)
	if !strings.Contains(at, "://") {
		return base, location
	}
	i := strings.LastIndexByte(at, '/')
	return location[:i], location[i+1:]
}

// joinURL is a location with its base, as librepo joins them (lr_pathconcat in util.c).
func joinURL(base, path []byte) []byte {
	return []byte(strings.TrimRight(string(base), "/") + "/" + strings.TrimLeft(string(path), "/"))
}
