package archiveconf

import (
	"net/url"
	"regexp"
	"time"
)

// snapshotServices have archives as they were at the date in the URL.
var snapshotServices = []struct {
	host string
	path *regexp.Regexp // its group is the date
	form string         // of the date
}{
	{"snapshot.ubuntu.com", regexp.MustCompile(`^/[^/]+/(\d{8}T\d{6}Z)(/|$)`), "20060102T150405Z"},
	{"snapshot.debian.org", regexp.MustCompile(`^/archive/[^/]+/(\d{8}T\d{6}Z)(/|$)`), "20060102T150405Z"},
	{"archive.archlinux.org", regexp.MustCompile(`^/repos/(\d{4}/\d\d/\d\d)(/|$)`), "2006/01/02"},
}

// settled is how old a date must be: services answer for a date to come, or of this moment, with the newest
// state that they have, and take hours to have that of today.
const settled = 24 * time.Hour

// NeverChanges reports whether all upstreams of the archive stay as they are: by its own key, or because they are those
// of a snapshot service for a date that was over at the time now.
func (a Archive) NeverChanges(now time.Time) bool {
	if a.Immutable {
		return true
	}
	mirrors := a.Mirrors()
	for _, m := range mirrors {
		if at, ok := snapshotDate(m.URL); !ok || now.Sub(at) < settled {
			return false
		}
	}
	return len(mirrors) > 0
}

// snapshotDate is the date in the URL of an archive at a snapshot service; false for any other URL.
func snapshotDate(at string) (time.Time, bool) {
	u, err := url.Parse(at)
	if err != nil {
		return time.Time{}, false
	}
	for _, s := range snapshotServices {
		if found := s.path.FindStringSubmatch(u.Path); u.Host == s.host && found != nil {
			date, err := time.Parse(s.form, found[1])
			return date, err == nil
		}
	}
	return time.Time{}, false
}
