package aptconf

import (
	"fmt"
	"slices"
	"strings"
)

// stanza is one paragraph of a deb822 file: its fields by lower-case name, with
// the lines of each value, and where it begins.
type stanza struct {
	line   int
	fields map[string][]string
}

// words returns a field's value as words.
func (s stanza) words(field string) []string {
	return strings.Fields(strings.Join(s.fields[field], " "))
}

// first returns a field's value as one line.
func (s stanza) first(field string) string {
	return strings.TrimSpace(strings.Join(s.fields[field], " "))
}

// parseDeb822 reads the format of *.sources files: paragraphs of "Field: value"
// lines, continued by lines that begin with a space or tab.
func parseDeb822(file, text string, notice noticeFunc) []entry {
	var entries []entry
	for _, s := range splitStanzas(file, text, notice) {
		where := fmt.Sprintf("%s:%d", file, s.line)
		if isNo(s.first("enabled")) {
			continue
		}
		if types := s.words("types"); !slices.Contains(types, "deb") && !slices.Contains(types, "deb-src") {
			notice(where, s.first("types"), "Types holds neither deb nor deb-src")
			continue
		}
		uris, suites := s.words("uris"), s.words("suites")
		if len(uris) == 0 || len(suites) == 0 {
			notice(where, "", "the stanza needs both URIs and Suites")
			continue
		}
		for _, uri := range uris {
			entries = append(entries, entry{
				where: where, uri: uri, suites: suites,
				components: s.words("components"),
				signedBy:   signedByField(s.fields["signed-by"]),
				trusted:    isYes(s.first("trusted")),
			})
		}
	}
	return entries
}

func splitStanzas(file, text string, notice noticeFunc) []stanza {
	var all []stanza
	var cur stanza
	var field string
	flush := func() {
		if len(cur.fields) > 0 {
			all = append(all, cur)
		}
		cur, field = stanza{}, ""
	}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch {
		case strings.HasPrefix(line, "#"):
			// A comment line may stand between the lines of one value.
		case line == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			if field == "" {
				notice(fmt.Sprintf("%s:%d", file, i+1), strings.TrimSpace(line), "continues no field")
				continue
			}
			cur.fields[field] = append(cur.fields[field], strings.TrimSpace(line))
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				notice(fmt.Sprintf("%s:%d", file, i+1), redactWords(line), "is not a field: there is no colon")
				field = ""
				continue
			}
			if cur.fields == nil {
				cur.line, cur.fields = i+1, make(map[string][]string)
			}
			field = strings.ToLower(strings.TrimSpace(name))
			cur.fields[field] = []string{strings.TrimSpace(value)}
		}
	}
	flush()
	return all
}

// signedByField reads the value of Signed-By as apt does (NormalizeSignedBy in
// apt-pkg/deb/debmetaindex.cc): a key block in place, in which a line of "." stands for an
// empty one, or else keyrings and fingerprints.
func signedByField(lines []string) []string {
	if !isKeyBlock(strings.Join(lines, "\n")) {
		return splitSignedBy(strings.Join(lines, " "))
	}
	block := make([]string, len(lines))
	for i, l := range lines {
		if l != "." {
			block[i] = l
		}
	}
	return []string{strings.TrimLeft(strings.Join(block, "\n"), "\n") + "\n"}
}

// splitSignedBy splits the value of Signed-By. White space and commas both separate, in either
// format.
func splitSignedBy(value string) []string {
	return strings.FieldsFunc(value, func(c rune) bool { return c == ',' || strings.ContainsRune(" \t\n\v\f\r", c) })
}
