package cluster

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/aptmesh/aptmesh/node/admin"
)

// What another node says of itself is printed on a terminal: it is short, on one line, and of a level that there is.
func TestVerdictOfAnotherNode(t *testing.T) {
	for said, want := range map[string]string{
		"ubuntu: none of its mirrors can be asked now": "ubuntu: none of its mirrors can be asked now",
		"red \x1b[31m\nfailing: me\u202e":              "red  [31m failing: me ",
		"not \xff text":                                "not ? text",
	} {
		if level, note := verdict(Report{Level: admin.LevelFailing, Note: said}); level != admin.LevelFailing || note != want {
			t.Errorf("%q: %s, %q", said, level, note)
		}
	}
	if _, note := verdict(Report{Level: admin.LevelAttention, Note: strings.Repeat("ä", 4000)}); len(note) > maxNote+len("…") || !utf8.ValidString(note) {
		t.Errorf("%d bytes: %q", len(note), note)
	}
	for _, level := range []admin.Level{"", "panic"} {
		if level, note := verdict(Report{Level: level, Note: "x"}); level != "" || note != "" {
			t.Errorf("%q, %q", level, note)
		}
	}
}
