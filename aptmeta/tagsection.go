package aptmeta

import (
	"bytes"
	"errors"
	"fmt"
)

// tagSection is the first stanza of a file, by field name in lower case. Values have no white
// space around them; lines of a folded value keep their newlines.
type tagSection map[string][]byte

// readTagSection reads the first stanza as apt does (pkgTagSection::Scan, apt-pkg/tagfile.cc).
// Where apt and Debian Policy differ, apt decides, because hosts see what apt sees:
//
//   - A field's name reaches from the beginning of a line to the next colon, wherever that is. A
//     line without a colon therefore swallows the name of the field below it, and a comment line
//     hides that field. The last line without a colon makes the file unreadable.
//   - Of two fields with one name the last counts.
//   - The stanza ends at the first empty line, even if it is the first line of the file.
func readTagSection(text []byte) (tagSection, error) {
	section := make(tagSection)
	var name string
	var value int // where the current field's value begins
	store := func(end int) {
		if name != "" {
			section[name] = bytes.TrimRight(text[value:max(value, end)], aptSpace)
		}
	}
	at := 0
	for at < len(text) {
		if !isAptSpace(text[at]) {
			store(at)
			colon := bytes.IndexByte(text[at:], ':')
			if colon < 0 {
				line, _ := cutLine(text[at:])
				return nil, fmt.Errorf("%.60q is not a field, and no field follows it", line)
			}
			name = string(bytes.ToLower(bytes.TrimRight(text[at:at+colon], aptSpace)))
			at += colon + 1
			for at < len(text) && isAptSpace(text[at]) {
				if text[at] == '\n' && (at+1 == len(text) || text[at+1] != ' ') {
					break
				}
				at++
			}
			value = at
		}
		newline := bytes.IndexByte(text[at:], '\n')
		if newline < 0 {
			at = len(text)
			break
		}
		at += newline
		for at+1 < len(text) && text[at+1] == '\r' {
			at++
		}
		if at+1 < len(text) && text[at+1] == '\n' {
			break
		}
		at++
	}
	store(at)
	if len(section) == 0 {
		return nil, errors.New("it has no field before its first empty line")
	}
	return section, nil
}

// aptSpace is what apt takes for white space (isspace_ascii, apt-pkg/contrib/strutl.h).
const aptSpace = " \t\n\v\f\r"

func isAptSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
