package aptconf

import (
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Names end up in the configuration of every host that uses the node, so they
// must not change when an archive is added. Three rules see to that: the archives
// of Ubuntu and Debian have their plain names whatever else there is; an archive
// in a directory of its own below a host takes that directory's name; and all
// others, which could collide with the next one of their kind (every PPA ends in
// /ubuntu), are called after their whole URL.

// generic names do not identify an archive.
var generic = map[string]bool{
	"apt": true, "archive": true, "archives": true, "deb": true, "debs": true,
	"download": true, "downloads": true, "dists": true, "linux": true, "mirror": true,
	"packages": true, "pub": true, "public": true, "release": true, "releases": true,
	"repo": true, "repos": true, "repository": true, "stable": true,
	"http": true, "https": true,
}

// genericList names say so little of lists of mirrors.
var genericList = map[string]bool{
	"apt-mirrors": true, "list": true, "mirrorlist": true, "mirrors": true, "sources": true,
}

// nameAll gives every archive its name. Of two that want the same, the first in
// apt's order has it.
func nameAll(archives []Archive) {
	taken := make(map[string]bool)
	for i := range archives {
		if k := archives[i].known; k.Name != "" && !taken[k.Name] {
			archives[i].Name = k.Name
			taken[k.Name] = true
		}
	}
	for i := range archives {
		if archives[i].Name != "" {
			continue
		}
		short, long := candidates(archives[i].URL)
		name := short
		if name == "" || taken[name] {
			name = long
		}
		for n := 2; taken[name]; n++ {
			name = long + "-" + strconv.Itoa(n)
		}
		archives[i].Name = name
		taken[name] = true
	}
}

// candidates returns the short name of a base URL, "" where it would say too
// little, and the long one made of host and path.
func candidates(base string) (short, long string) {
	if IsMirrorList(base) {
		return listCandidates(base)
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", clean(base)
	}
	dirs := strings.Trim(u.Path, "/")
	if dirs == "" {
		return "", clean(u.Host)
	}
	long = clean(u.Host + "-" + strings.ReplaceAll(dirs, "/", "-"))
	if short = clean(dirs); strings.Contains(dirs, "/") || generic[strings.ToLower(short)] {
		short = ""
	}
	return short, long
}

// listCandidates is candidates for a list of mirrors, which is called after its file:
// ubuntu.txt is a list of mirrors of ubuntu.
func listCandidates(base string) (short, long string) {
	list, err := ParseListURL(base)
	if err != nil {
		return "", clean(base)
	}
	whole := list.File
	if list.URL != nil {
		whole = list.URL.Host + list.URL.Path
	}
	whole = strings.TrimSuffix(whole, path.Ext(whole))
	short = clean(path.Base(whole))
	if lower := strings.ToLower(short); generic[lower] || genericList[lower] || list.URL != nil && path.Dir(list.URL.Path) != "/" {
		short = ""
	}
	return short, clean(whole)
}

// clean keeps what can stand in a URL path without escaping.
func clean(s string) string {
	mapped := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
			return c
		}
		return '-'
	}, s)
	mapped = strings.Trim(mapped, "-._")
	if mapped == "" {
		return "archive"
	}
	return mapped
}
