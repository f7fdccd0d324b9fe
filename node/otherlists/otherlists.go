// Package otherlists reads lists of mirrors as dnf, zypper and pacman have them: metalinks of MirrorManager, plain lists of
// URLs, and lines "Server = URL". apt's own format is that of node/aptconf, and every list is given on in it.
//
// These lists name the URL of one repository at each mirror, where apt's name the root of the archive: what lies
// between the two is cut off.
package otherlists

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// maxNotices bounds the notices about one list, because anybody may have written it.
const maxNotices = 16

// Parse reads a list in any format. where names it in notices. below is the path of the repository that the list is for,
// below the archive; "" if its URLs are those of the archive. Mirrors are returned by priority, as by
// aptconf.ParseMirrorList. The error says that there is none to use.
func Parse(where string, text []byte, below string) ([]aptconf.ListedMirror, []aptconf.Notice, error) {
	if len(text) > aptconf.MaxMirrorList {
		return nil, nil, fmt.Errorf("the list of mirrors is longer than %d bytes", aptconf.MaxMirrorList)
	}
	r := reader{where: where, below: below}
	if trimmed := bytes.TrimLeft(text, "\ufeff \t\r\n"); bytes.HasPrefix(trimmed, []byte("<")) {
		if err := r.metalink(trimmed); err != nil {
			return nil, r.notices, err
		}
	} else {
		r.lines(text)
	}
	mirrors, notices, err := aptconf.ParseMirrorList(where, []byte(r.apt.String()))
	notices = append(r.notices, notices...)
	if err != nil && below != "" && r.outside > 0 {
		err = fmt.Errorf("none of its %d URLs ends with %q, the path below the archive that its own URL names after the #", r.outside, below)
	}
	return mirrors, notices, err
}

// reader writes a list down in apt's format.
type reader struct {
	where, below string
	apt          strings.Builder
	notices      []aptconf.Notice
	outside      int // URLs that do not end with below
}

// lines reads a list with a mirror in each line. Every line becomes one line, so that its number stays.
func (r *reader) lines(text []byte) {
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		words := strings.Fields(line)
		if len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			words = server(words)
			words[0] = r.root(n, words[0])
		}
		r.apt.WriteString(strings.Join(words, " ") + "\n")
	}
}

// server takes the URL out of a line of pacman's list, "Server = URL/$repo/os/$arch". Where its repositories lie is up to
// the archive: the root is what stands before the first variable.
func server(words []string) []string {
	_, at, ok := strings.Cut(strings.Join(words, ""), "=")
	if !ok || !strings.HasPrefix(words[0], "Server") {
		return words
	}
	at, _, _ = strings.Cut(at, "/$")
	return []string{at}
}

// root cuts the repository's path off a URL. What does not end with it is no mirror of the archive, and becomes a comment.
func (r *reader) root(line int, at string) string {
	root, why := at, ""
	if r.below != "" {
		var ok bool
		if root, ok = strings.CutSuffix(strings.TrimRight(at, "/"), "/"+r.below); !ok {
			why = "does not end with " + r.below
			r.outside++
		}
	}
	if why == "" && strings.Contains(root, "/$") {
		why = "has a variable, so that it is the URL of a repository: name its path below the archive behind a # in the URL of the list"
	}
	switch {
	case why == "":
		return root
	case len(r.notices) < maxNotices:
		r.notices = append(r.notices, aptconf.Notice{Where: fmt.Sprintf("%s:%d", r.where, line), What: shortened(at), Reason: why})
	}
	return "#"
}

func shortened(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// metalink is what is read of RFC 5854's predecessor, as MirrorManager writes it.
type metalink struct {
	XMLName xml.Name `xml:"metalink"`
	Files   []struct {
		Name string `xml:"name,attr"`
		URLs []struct {
			Preference string `xml:"preference,attr"`
			At         string `xml:",chardata"`
		} `xml:"resources>url"`
	} `xml:"files>file"`
}

// repomd is the file that a metalink of a repository is about.
const repomd = "repomd.xml"

// metalink reads the URLs of a metalink. MirrorManager has the nearest mirrors first, each with a preference of its own: the
// order says which are used of a long list, and all that are used are equal, because their speed is measured. A mirror
// with http and https is used by https.
func (r *reader) metalink(text []byte) error {
	var doc metalink
	if err := xml.NewDecoder(bytes.NewReader(text)).Decode(&doc); err != nil {
		return fmt.Errorf("it begins as XML, and is no metalink that can be read: %w", err)
	}
	type listed struct {
		preference int
		at         string
	}
	var all []listed
	for _, f := range doc.Files {
		for _, u := range f.URLs {
			at := strings.TrimSpace(u.At)
			scheme, _, _ := strings.Cut(at, "://")
			if f.Name != repomd || scheme != "http" && scheme != "https" {
				continue
			}
			at, ok := strings.CutSuffix(at, "/repodata/"+repomd)
			if !ok {
				continue
			}
			preference, _ := strconv.Atoi(u.Preference)
			all = append(all, listed{preference, at})
		}
	}
	if len(all) == 0 {
		return errors.New("the metalink names no mirror of http or https that has a " + repomd)
	}
	slices.SortStableFunc(all, func(x, y listed) int { return cmp.Compare(y.preference, x.preference) })
	secure := make(map[string]bool)
	for _, l := range all {
		if rest, ok := strings.CutPrefix(l.at, "https://"); ok {
			secure[rest] = true
		}
	}
	seen := make(map[string]bool)
	for i, l := range all {
		_, rest, _ := strings.Cut(l.at, "://")
		if seen[rest] {
			continue
		}
		seen[rest] = true
		if secure[rest] {
			l.at = "https://" + rest
		}
		if root := r.root(i+1, l.at); root != "#" {
			r.apt.WriteString(root + "\n")
		}
	}
	return nil
}
