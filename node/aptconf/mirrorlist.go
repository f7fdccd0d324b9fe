package aptconf

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxMirrorList bounds a list of mirrors in bytes.
	MaxMirrorList = 1 << 20
	// maxMirrorLines bounds it in lines: those beyond are not looked at.
	maxMirrorLines = 4096
	// maxMirrorNotices bounds the notices about one list, because anybody may have written
	// it.
	maxMirrorNotices = 16
)

// ListURL is where a list of mirrors is. Either File or URL is set.
type ListURL struct {
	File string   // path on this machine
	URL  *url.URL // http or https
	// Below is the path, below the archive, of what the list names at each mirror; "" for the archive itself.
	// It is the fragment of the URI, which apt does not know.
	Below string
}

// IsMirrorList reports whether a URI is that of a list of mirrors rather than of an
// archive: apt's mirror method, by any transport.
func IsMirrorList(uri string) bool {
	scheme, _, _ := strings.Cut(uri, ":")
	return scheme == "mirror" || strings.HasPrefix(scheme, "mirror+")
}

// ParseListURL reads a URI of apt's mirror method: mirror+file, mirror+http or
// mirror+https; mirror alone is mirror+http. The error completes a sentence that
// begins with the URI's place.
func ParseListURL(uri string) (ListURL, error) {
	uri, below, has := strings.Cut(uri, "#")
	below = strings.Trim(below, "/")
	if has && (below == "" || slices.Contains(strings.Split(below, "/"), "..") || strings.ContainsAny(below, "#? \n\x00")) {
		return ListURL{}, fmt.Errorf("what follows the # of %s is no path of a repository below the archive, such as releases/40/Everything/x86_64/os", redact(uri))
	}
	scheme, rest, _ := strings.Cut(uri, ":")
	switch scheme {
	case "mirror+file", "mirror+copy":
		path := rest
		if after, ok := strings.CutPrefix(rest, "///"); ok {
			path = "/" + after
		}
		if path == "" || strings.HasPrefix(path, "//") || strings.HasSuffix(path, "/") || strings.ContainsAny(path, "\n\x00") {
			return ListURL{}, fmt.Errorf("%q is not the path of a list of mirrors: write mirror+file:/etc/apt/mirrors.txt", uri)
		}
		return ListURL{File: filepath.Clean(path), Below: below}, nil
	case "mirror":
		scheme = "mirror+http"
	case "mirror+http", "mirror+https":
	default:
		return ListURL{}, fmt.Errorf("lists of mirrors are had by mirror+http, mirror+https and mirror+file, not by %s", scheme)
	}
	u, err := url.Parse(strings.TrimPrefix(scheme, "mirror+") + ":" + rest)
	switch {
	case err != nil || u.Hostname() == "" || strings.Contains(u.Host, "*"):
		return ListURL{}, errors.New("is not the URL of a list of mirrors, such as mirror+http://mirrors.ubuntu.com/mirrors.txt")
	case u.User != nil:
		return ListURL{}, fmt.Errorf("mirror+%s holds a user or password, which a list of mirrors cannot have", u.Redacted())
	}
	u.Host = canonicalHost(u)
	return ListURL{URL: u, Below: below}, nil
}

// String is the one spelling of the URI.
func (l ListURL) String() string {
	at := "mirror+file:" + l.File
	if l.URL != nil {
		at = "mirror+" + l.URL.String()
	}
	if l.Below != "" {
		at += "#" + l.Below
	}
	return at
}

// NoPriority is the priority that apt gives a mirror without one: the highest number, so that
// the mirror is asked last.
const NoPriority = math.MaxUint32

// ListedMirror is one line of a list of mirrors.
type ListedMirror struct {
	// URL is the root of the archive there, as Canonical spells it.
	URL *url.URL
	// Priority: lower is asked first; NoPriority where the line says nothing.
	Priority uint32
}

// ParseMirrorList reads a list of mirrors in the format of apt-transport-mirror(1),
// which a plain list of URLs also is: a URI per line, then, separated by tabs or
// spaces, key:value pairs. It returns the URIs of http and https, each once, by priority and
// otherwise in the order of the list, and notices about what it left out; where names the
// list in these.
//
// A line that is limited to some files (arch, codename, component, lang, suite or
// type) is left out: that mirror has only a part of the archive, and its "not found" for the
// rest would mean nothing.
//
// The error says that there is no usable entry.
func ParseMirrorList(where string, text []byte) ([]ListedMirror, []Notice, error) {
	if len(text) > MaxMirrorList {
		return nil, nil, fmt.Errorf("the list of mirrors is longer than %d bytes", MaxMirrorList)
	}
	var mirrors []ListedMirror
	var notices []Notice
	notice := func(line int, what, reason string) {
		if len(notices) < maxMirrorNotices {
			notices = append(notices, Notice{fmt.Sprintf("%s:%d", where, line), what, reason})
		}
	}
	place := make(map[string]int) // URL -> index in mirrors
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, MaxMirrorList+1)
	for n := 1; lines.Scan(); n++ {
		if n > maxMirrorLines {
			notice(n, "", fmt.Sprintf("only the first %d lines are looked at", maxMirrorLines))
			break
		}
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		m, err := parseListedMirror(words)
		if err != nil {
			notice(n, shortened(redact(words[0])), err.Error())
			continue
		}
		if at, twice := place[m.URL.String()]; twice {
			mirrors[at].Priority = min(mirrors[at].Priority, m.Priority)
			continue
		}
		place[m.URL.String()] = len(mirrors)
		mirrors = append(mirrors, m)
	}
	if len(mirrors) == 0 {
		return nil, notices, errors.New("the list names no mirror of http or https that holds the whole archive")
	}
	slices.SortStableFunc(mirrors, func(a, b ListedMirror) int {
		switch {
		case a.Priority < b.Priority:
			return -1
		case a.Priority > b.Priority:
			return 1
		}
		return 0
	})
	return mirrors, notices, nil
}

// parseListedMirror reads the words of one line.
func parseListedMirror(words []string) (ListedMirror, error) {
	u, private, err := parseBase(words[0])
	switch {
	case err != nil:
		return ListedMirror{}, err
	case private:
		return ListedMirror{}, errors.New("holds a user or password, which a list of mirrors cannot have")
	case slices.Contains(strings.Split(u.Path, "/"), "..") || strings.ContainsAny(u.Host, "*%\\"):
		return ListedMirror{}, errors.New("is not the URL of an archive")
	}
	m := ListedMirror{URL: u, Priority: NoPriority}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, ":")
		switch strings.ToLower(key) {
		case "priority":
			p, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return ListedMirror{}, fmt.Errorf("has the priority %q, which is no number", shortened(value))
			}
			m.Priority = uint32(p)
		case "arch", "codename", "component", "lang", "suite", "type":
			return ListedMirror{}, fmt.Errorf("holds only a part of the archive (%s)", shortened(word))
		}
	}
	return m, nil
}

// shortened keeps text of unknown origin to what fits into a line.
func shortened(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
