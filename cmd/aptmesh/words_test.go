package main

import (
	"fmt"
	"go/scanner"
	"go/token"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
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

	"node/format/rpm/rpmarchive": "Fedora calls the directory of packages so, too",
	"proto/path.go":              "it cites what apt sends",
	"node/front/problems.go":     "it cites what apt does",
	"cmd/aptmesh/why.go":         "it shows an example",
}

// TestOnlyTheFormatSpeaksDebian: a repository format is behind a seam, and a word of Debian elsewhere
// is a hole in it. Product code and its comments are looked at, tests are not.
func TestOnlyTheFormatSpeaksDebian(t *testing.T) {
	used := make(map[string]bool)
	for _, name := range productFiles(t) {
		for _, found := range debianIn(t, name) {
			if excuse := coveredBy(mayUseDebianWords, name); excuse != "" {
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

// productFiles returns the Go files that are neither tests nor generated.
func productFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", root(), "ls-files", "*.go").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
		return strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".pb.go")
	})
}

// coveredBy returns the room or file of a list that covers a file; "" if none does.
func coveredBy(list map[string]string, name string) string {
	for at := name; at != "."; at = filepath.Dir(at) {
		if _, ok := list[at]; ok {
			return at
		}
	}
	return ""
}

// debianIn returns the tokens of a file that have a word of Debian in them.
func debianIn(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	for line, text := range tokensOf(t, name) {
		if debianWords.MatchString(text) {
			found = append(found, fmt.Sprintf("line %d: %s", line, text))
		}
	}
	return found
}

// tokensOf yields the identifiers, strings and comments of a file, each with its line.
func tokensOf(t *testing.T, name string) iter.Seq2[int, string] {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(root(), name))
	if err != nil && !os.IsNotExist(err) { // it may be deleted and not committed yet
		t.Fatal(err)
	}
	return func(yield func(int, string) bool) {
		files := token.NewFileSet()
		var s scanner.Scanner
		s.Init(files.AddFile(name, files.Base(), len(src)), src, nil, scanner.ScanComments)
		for {
			pos, tok, text := s.Scan()
			switch tok {
			case token.EOF:
				return
			case token.STRING, token.IDENT, token.COMMENT:
				if !yield(files.Position(pos).Line, text) {
					return
				}
			}
		}
	}
}

// dialect are words that this project once used for things that have a name in the field, with that
// name. They are forbidden in identifiers, in comments and in texts of product code.
var dialect = map[string]string{
	"errand": "attempt", "vigil": "progress or watch", "standoff": "contention",
	"rumour": "announcement", "rumours": "announcements", "teller": "sender", "heed": "watch or accept",
	"liar": "corrupt source", "liars": "corrupt sources", "shun": "exclude", "shunned": "excluded",
	"tired": "exhausted", "unkept": "not stored", "greet": "sync", "strike": "penalty", "strikes": "penalties",
	"lone": "last copy", "seat": "grant", "glance": "check", "flip": "generation switch", "flips": "generation switches",
	"asker": "requester", "askers": "requesters", "departed": "left", "knock": "connect",
	"hush": "quiesce", "heir": "successor", "depart": "leave",
	"door": "listener or front", "doors": "listeners", "gate": "scheduler or check", "gates": "checks",
	"elsewhere": "at another node, replicated", "bench": "exclude", "benched": "excluded",
}

// maySpeakDialect are the rooms that still may, each with the reason.
var maySpeakDialect = map[string]string{
	"e2e": "it is not the product: bench, matrix and soak have words of their own",
}

// notWords are the words of metrics, keys and labels that must not come back.
var notWords = regexp.MustCompile("aptmesh_info\\b|upstream_places|mirror_left_total|mirror_strikes|unkept_total|mirror_lies|" +
	"suite_asks|catalog_flips|held_blobs|distrusted_total|recalled_total|\"not_held\"|, \"err\", ")

// TestWordsAreTheFields: an engineer who knows HTTP caches, gossip and apt recognises everything at
// first sight. Product code and its comments are checked; tests are not.
func TestWordsAreTheFields(t *testing.T) {
	used := make(map[string]bool)
	for _, name := range productFiles(t) {
		for _, found := range dialectIn(t, name) {
			if room := coveredBy(maySpeakDialect, name); room != "" {
				used[room] = true
				continue
			}
			t.Errorf("%s: %s", name, found)
		}
	}
	for room := range maySpeakDialect {
		if !used[room] {
			t.Errorf("%s needs no exception any more: take it off the list", room)
		}
	}
}

// dialectIn returns the words of a file that have a better one, with their lines.
func dialectIn(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	for line, text := range tokensOf(t, name) {
		if word := notWords.FindString(text); word != "" {
			found = append(found, fmt.Sprintf("line %d: %q is an old name", line, word))
		}
		for word := range strings.FieldsFuncSeq(camel.ReplaceAllString(text, "$1 $2"), notLetter) {
			flag := strings.Contains(text, " -"+word+" ") // of a program of others: go test -bench
			if better := dialect[strings.ToLower(word)]; better != "" && !flag {
				found = append(found, fmt.Sprintf("line %d: %q: say %s", line, word, better))
			}
		}
	}
	return found
}

// camel is where a word of an identifier ends and the next one begins.
var camel = regexp.MustCompile(`([a-z0-9])([A-Z])`)

func notLetter(r rune) bool { return !unicode.IsLetter(r) }
