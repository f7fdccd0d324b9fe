package differential

import (
	"net/http"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// row is one odd archive and what a host does with it. The zero value of every field but
// the name describes a tidy archive with the suite "noble", which has the package hello,
// a library for all architectures, and the source package tool where a host wants sources.
type row struct {
	name string

	// suite describes the archive, and odd spoils that description in every generation
	// from the number `from` on; 0 counts as 1, so that a node meets the oddity first of all.
	suite testarchive.Suite
	odd   func(gen int, s *testarchive.Suite)
	from  int
	// keys sign each generation, by its number less one; default: the one key of the suite.
	// The node trusts them all, a host only those of the generation it is to see, or those
	// of trusts. With trustedParts the host's keys are for all its sources.
	keys         [][]*testarchive.Key
	trusts       []*testarchive.Key
	trustedParts bool
	// packages are those of a generation in place of the usual ones.
	packages func(gen int) []testarchive.Package
	// lay puts further files on the server after a generation has been published, or
	// takes some away.
	lay func(s *site, gen int)
	// serve sets what the server does wrong, before the first generation.
	serve func(s *site)
	// wrap stands between the server and everybody who asks it.
	wrap func(s *site, next http.Handler) http.Handler
	// path is added to the archive's URL, as /debian; the server serves it there.
	path string

	// sources is the host's sources.list, with URL and KEYRING, and settings are further
	// lines of its apt.conf. debs and srcs are what it downloads; default: hello, and tool
	// where sources has a deb-src line.
	sources    string
	settings   []string
	debs, srcs []string
	// node are further lines of the archive's section in the node's configuration.
	node string
	// tool names a program without which the row is left out.
	tool string

	// refused: apt itself does not take this archive, so no node may make it work.
	refused bool
	// allowed names a difference that we want, by a part of its text, and why.
	allowed []exception
	// stuck: directly, a host that has generation 1 is told for ever that nothing has changed; it is better off with a
	// node. So hosts that know nothing are compared.
	stuck bool
	// everywhere: the short form of the test has this row in every mode.
	everywhere bool
	// watch are further files, relative to the archive's URL, that a node must give as they
	// are upstream before the second generation counts as followed, and patience is how
	// long that may take; 0 is 10 s.
	watch    []string
	patience time.Duration
}

// exception is a difference between a host that asks directly and one that asks a node
// which is no fault.
type exception struct{ part, why string }

const (
	deb    = "deb [signed-by=KEYRING] URL noble main"
	debSrc = deb + "\ndeb-src [signed-by=KEYRING] URL noble main"
)

func (r row) withDefaults() row {
	if r.suite.Name == "" && !r.suite.Flat {
		r.suite.Name = "noble"
	}
	r.from = max(r.from, 1)
	if r.patience == 0 {
		r.patience = 10 * time.Second
	}
	if r.sources == "" {
		r.sources = deb
	}
	if r.debs == nil {
		r.debs = []string{"hello"}
	}
	if r.srcs == nil && strings.Contains(r.sources, "deb-src") {
		r.srcs = []string{"tool"}
	}
	if r.packages == nil {
		r.packages = usual
	}
	return r
}

// refused marks a row that apt itself does not take.
func refused(r row) row {
	r.refused = true
	return r
}

// usual are the packages of a generation.
func usual(gen int) []testarchive.Package {
	v := version(gen)
	return []testarchive.Package{
		{Name: "hello", Version: v, Size: 4000},
		{Name: "libworld1", Version: "1.0", Arch: "all", Size: 100},
		{Name: "tool", Version: v, Size: 1000, Source: true},
	}
}

// version is that of the packages of a generation.
func version(gen int) string { return [...]string{"", "1.0-1", "2.0-1"}[gen] }

// file is the archive's name in the configuration and in mapped URLs.
func (r row) file() string {
	slug := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		}
		return '-'
	}, r.name)
	return strings.Trim(slug, "-")
}

// began is when the test began; generations are dated before it.
var began = time.Now().Truncate(time.Second)

// date is the Date of a generation.
func date(gen int) time.Time { return began.Add(time.Duration(gen-3) * time.Hour) }

// What follows spoils the text of a Release. Its lists of sums come last, SHA256 at the end.

// edit is a row whose Release is altered before it is signed.
func edit(name string, change func(gen int, text string) string) row {
	return row{name: name, odd: func(gen int, s *testarchive.Suite) {
		s.Edit = func(text string) string { return change(gen, text) }
	}}
}

// drop takes a field of one line out of a Release.
func drop(text, field string) string {
	lines := strings.SplitAfter(text, "\n")
	kept := lines[:0]
	for _, line := range lines {
		if !strings.HasPrefix(line, field+":") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// set puts a field with that value in the place of all of its name.
func set(text, field, value string) string { return add(drop(text, field), field+": "+value) }

// add puts further lines before the first list of sums.
func add(text, lines string) string {
	head, sums := split(text)
	return head + lines + "\n" + sums
}

// split parts a Release before its first list of sums.
func split(text string) (head, sums string) {
	at := len(text)
	for _, list := range []string{"MD5Sum:", "SHA1:", "SHA256:", "SHA512:"} {
		if i := strings.Index(text, "\n"+list); i >= 0 {
			at = min(at, i+1)
		}
	}
	return text[:at], text[at:]
}

// entry is the line of a path in the last list of sums.
func entry(text, path string) string {
	end := strings.LastIndex(text, " "+path+"\n") + len(" "+path+"\n")
	return text[strings.LastIndexByte(text[:end-1], '\n')+1 : end]
}

const packages = "main/binary-amd64/Packages"

// other is the SHA-256 of something else.
var other = testarchive.Sum(testarchive.SHA256, []byte("something else"))
