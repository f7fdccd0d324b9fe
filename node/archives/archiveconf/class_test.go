package archiveconf

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/config/keys"
)

// problemsOf is what a check says of archives, without their files.
func problemsOf(archives Archives) (problems []string) {
	c := &keys.Checker{NoFiles: true}
	Check(c, archives, Node{IsSelf: func(*url.URL) bool { return false }})
	for _, p := range c.Problems {
		problems = append(problems, p.Message)
	}
	return problems
}

// classProblems is what a check says of archives with these upstreams, each with its aliases behind spaces.
func classProblems(upstreams ...string) []string {
	var archives Archives
	for i, u := range upstreams {
		a := New(string(rune('a' + i)))
		first, aliases, _ := strings.Cut(u, " ")
		a.Upstream, a.Aliases, a.SignedBy = first, strings.Fields(aliases), []string{"/k"}
		archives = append(archives, a)
	}
	return problemsOf(archives)
}

func TestClassChecks(t *testing.T) {
	for upstreams, want := range map[string]string{
		"http://e.example.org/**":                                   "one whole element",
		"http://e.example.org/a*/x":                                 "one whole element",
		"http://e*.example.org/":                                    "one whole",
		"http://*.org/x":                                            "last two labels",
		"http://*/x":                                                "last two labels",
		"http://e.example.*/x":                                      "last two labels",
		"ftp://e.example.org/*":                                     "not an http or https URL",
		"http://u:p@e.example.org/*":                                "write them under credentials",
		"http://e.example.org/*?x":                                  "has a query",
		"http://e.example.org/*/../x":                               "has no place",
		"http://e.example.org:99999/*":                              "is not a number",
		"http://e.example.org/*/*/*/*/*":                            "4 are the most",
		"http://e.example.org/* http://f.example.org/*/*":           "the values of the first",
		"http://e.example.org/* http://f.example.org/x":             "the values of the first",
		"http://e.example.org/*/x|http://e.example.org/y/*":         "could mean either",
		"http://e.example.org/*/x|https://e.example.org/*/x":        "could mean either",
		"http://*.e.example.org/x/y/*|http://z.e.example.org/*/y/z": "could mean either",
		"http://a.e.example.org/* http://b.e.example.org/*|http://*.e.example.org/x": "could mean either",
		// What one of them has more, or names otherwise, keeps them apart.
		"http://e.example.org/*/x|http://e.example.org/*/y":   "",
		"http://e.example.org/*|http://e.example.org/*/*":     "",
		"http://e.example.org/*|http://e.example.org:8080/*":  "",
		"http://e.example.org/*/x|http://e.example.org/y/x":   "", // the archive goes first
		"http://*.e.example.org/*|http://*.*.e.example.org/*": "",
	} {
		problems := classProblems(strings.Split(upstreams, "|")...)
		if want == "" && len(problems) > 0 || want != "" && !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("%s: %q, want %q", upstreams, problems, want)
		}
	}
	class, below := New("ppa"), New("ppa/x/y")
	class.Upstream, class.SignedBy = "http://*.e.example.org/*", []string{"/k"}
	class.Credentials.User, class.History = "u", "http://s.example.org"
	below.Upstream, below.SignedBy = "http://f.example.org/x", []string{"/k"}
	problems := problemsOf(Archives{class, below})
	for _, want := range []string{"the name is one that an archive of the class ppa may have", "whatever host a client names", "history: is not for a class"} {
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("no problem says %q: %v", want, problems)
		}
	}
}
