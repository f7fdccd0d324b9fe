package aptconf

import (
	"fmt"
	"strings"
)

// noticeFunc records what was passed over.
type noticeFunc func(where, what, reason string)

// parseOneLine reads the one-line format:
//
//	deb [ option=value option=value ] uri suite component…
func parseOneLine(file, text string, notice noticeFunc) []entry {
	var entries []entry
	for i, line := range strings.Split(text, "\n") {
		where := fmt.Sprintf("%s:%d", file, i+1)
		line = strings.TrimSpace(stripComment(line))
		if line == "" {
			continue
		}
		e, err := parseLine(line)
		if err != nil {
			notice(where, redactWords(line), err.Error())
			continue
		}
		e.where = where
		entries = append(entries, e)
	}
	return entries
}

// stripComment cuts a line at its first "#" that is not inside brackets, as apt
// does.
func stripComment(line string) string {
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '#':
			return line[:i]
		case '[':
			if end := strings.IndexByte(line[i:], ']'); end > 0 {
				i += end
			}
		}
	}
	return line
}

func parseLine(line string) (entry, error) {
	kind, rest, _ := cutWord(line)
	if kind != "deb" && kind != "deb-src" {
		return entry{}, fmt.Errorf("begins with neither deb nor deb-src")
	}
	var e entry
	if strings.HasPrefix(rest, "[") {
		options, after, closed := strings.Cut(rest[1:], "]")
		if !closed {
			return entry{}, fmt.Errorf("has no ] to close its options")
		}
		e.applyOptions(options)
		rest = strings.TrimSpace(after)
	}
	var ok bool
	if e.uri, rest, ok = cutWord(rest); !ok {
		return entry{}, fmt.Errorf("names no URI")
	}
	suite, rest, ok := cutWord(rest)
	if !ok {
		return entry{}, fmt.Errorf("names no suite")
	}
	e.suites = []string{suite}
	for component, rest, ok := cutWord(rest); ok; component, rest, ok = cutWord(rest) {
		e.components = append(e.components, component)
	}
	return e, nil
}

// applyOptions takes the two options that matter to a cache; apt ignores what it
// does not know, and so do we.
func (e *entry) applyOptions(options string) {
	for word, rest, ok := cutWord(options); ok; word, rest, ok = cutWord(rest) {
		name, value, _ := strings.Cut(word, "=")
		switch name { // the last of two counts
		case "signed-by":
			e.signedBy = splitSignedBy(value)
		case "trusted":
			e.trusted = isYes(value)
		}
	}
}

// cutWord takes the first word of a line; a part in double quotes may hold spaces.
func cutWord(line string) (word, rest string, ok bool) {
	line = strings.TrimLeft(line, " \t\r\f\v")
	if line == "" {
		return "", "", false
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(" \t\r\f\v", c) >= 0:
			return b.String(), strings.TrimLeft(line[i:], " \t\r\f\v"), true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", true
}

// isYes is apt's StringToBool, for the words that mean true.
func isYes(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "yes", "true", "with", "on", "enable", "1":
		return true
	}
	return false
}

// isNo is apt's StringToBool, for the words that mean false.
func isNo(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "no", "false", "without", "off", "disable", "0":
		return true
	}
	return false
}
