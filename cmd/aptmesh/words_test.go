package main

import (
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// debianWords are what only Debian's formats have: names of files and of directories.
// "Packages" alone is a word of everybody, and a name of a file only in quotes or behind a slash.
var debianWords = regexp.MustCompile(`(?i:InRelease|Release\.?gpg|by-?hash|\bpool/|binary-(all|amd64|arm64|<|%|\*|"))` +
	`|["/` + "`" + `]Packages["./` + "`" + `]|\bPackages (index|indices|file)`)

// mayUseDebianWords are the rooms and files that may use them, each with the reason. A room covers
// the rooms below it.
var mayUseDebianWords = map[string]string{
	"aptmeta":         "it reads Debian's formats",
	"node/format/deb": "it says what they mean",
	"e2e":             "it drives apt",

	"proto/path.go":          "it cites what apt sends",
	"node/front/problems.go": "it cites what apt does",
	"cmd/aptmesh/why.go":     "it shows an example",
}

// TestOnlyTheFormatSpeaksDebian: a repository format is behind a seam, and a word of Debian elsewhere
// is a hole in it. Product code and its comments are looked at, tests are not.
func TestOnlyTheFormatSpeaksDebian(t *testing.T) {
	out, err := exec.Command("git", "-C", root(), "ls-files", "*.go").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	used := make(map[string]bool)
	for name := range strings.FieldsSeq(string(out)) {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".pb.go") {
			continue
		}
		for _, found := range debianIn(t, name) {
			if excuse := excusedFor(name); excuse != "" {
				used[excuse] = true
				continue
			}
			t.Errorf("%s says %q: only the rooms of Debian's format may (ask the format, or say it in general words)", name, found)
		}
	}
	for excuse := range mayUseDebianWords {
		if !used[excuse] {
			t.Errorf("%s needs no exception any more: take it off the list", excuse)
		}
	}
}

// excusedFor returns the room or file of the list that covers a file.
func excusedFor(name string) string {
	for at := name; at != "."; at = filepath.Dir(at) {
		if _, ok := mayUseDebianWords[at]; ok {
			return at
		}
	}
	return ""
}

// debianIn returns the tokens of a file that have a word of Debian in them.
func debianIn(t *testing.T, name string) []string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(root(), name))
	if os.IsNotExist(err) {
		return nil // deleted and not committed yet
	}
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	var s scanner.Scanner
	s.Init(files.AddFile(name, files.Base(), len(src)), src, nil, scanner.ScanComments)
	var found []string
	for {
		pos, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return found
		case token.STRING, token.IDENT, token.COMMENT:
			if word := debianWords.FindString(text); word != "" {
				found = append(found, files.Position(pos).String()+": "+text)
			}
		}
	}
}
