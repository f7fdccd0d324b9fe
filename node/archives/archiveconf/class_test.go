package archiveconf

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/upstream"
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

// A class may have its upstream as the one entry of upstreams, with what every member needs to be let in. What
// identifies the node goes to no host that a client chooses.
func TestClassOfUpstreams(t *testing.T) {
	secret := upstream.Credentials{User: "u", Password: upstream.NewSecret("p")}
	for name, tt := range map[string]struct {
		upstreams []Mirror
		change    func(*Archive)
		want      string // "" for no problem
	}{
		"a CA":                               {upstreams: []Mirror{{URL: "https://e.example.org/*", TLS: upstream.TLSFiles{CA: "/ca"}}}},
		"a certificate and a password":       {upstreams: []Mirror{{URL: "https://e.example.org/*", Credentials: secret, TLS: upstream.TLSFiles{CA: "/ca", Cert: "/c", Key: "/k"}}}},
		"a CA for hosts that clients choose": {upstreams: []Mirror{{URL: "https://*.e.example.org/x", TLS: upstream.TLSFiles{CA: "/ca"}}}},
		"a password for them":                {upstreams: []Mirror{{URL: "https://*.e.example.org/x", Credentials: secret}}, want: "archives.a.upstreams[0].credentials: would be sent to whatever host a client names"},
		"a certificate for them":             {upstreams: []Mirror{{URL: "https://*.e.example.org/x", TLS: upstream.TLSFiles{Cert: "/c", Key: "/k"}}}, want: "archives.a.upstreams[0].tls.cert: would be shown to whatever host a client names"},
		"TLS without TLS":                    {upstreams: []Mirror{{URL: "http://e.example.org/*", TLS: upstream.TLSFiles{CA: "/ca"}}}, want: "archives.a.upstreams[0].tls: means nothing for http://e.example.org/*"},
		"half a pair":                        {upstreams: []Mirror{{URL: "https://e.example.org/*", TLS: upstream.TLSFiles{Cert: "/c"}}}, want: "archives.a.upstreams[0].tls: cert and key go together"},
		"a password without user":            {upstreams: []Mirror{{URL: "https://e.example.org/*", Credentials: upstream.Credentials{Password: upstream.NewSecret("p")}}}, want: "archives.a.upstreams[0].credentials: a password needs its user"},
		"the same of the short form":         {change: func(a *Archive) { a.Upstream, a.Credentials.PasswordFile = "https://e.example.org/*", "/p" }, want: "archives.a.credentials: a password needs its user"},
		"part of a label":                    {upstreams: []Mirror{{URL: "https://e.example.org/x*", TLS: upstream.TLSFiles{CA: "/ca"}}}, want: "archives.a.upstreams[0].url: https://e.example.org/x*: a * stands for one whole element"},
		"a second one":                       {upstreams: []Mirror{{URL: "https://e.example.org/*"}, {URL: "https://f.example.org/*"}}, want: "archives.a.upstreams[1].url: https://f.example.org/*: a * in the path makes a class of archives, and that has one upstream"},
		"this node itself":                   {upstreams: []Mirror{{URL: "https://self.example.org/*"}}, want: "archives.a.upstreams[0].url: https://self.example.org/* is this node itself"},
		"both keys":                          {upstreams: []Mirror{{URL: "https://e.example.org/*"}}, change: func(a *Archive) { a.Upstream = "https://f.example.org/*" }, want: "archives.a.upstreams: stands beside `upstream`"},
		"credentials of the short form":      {upstreams: []Mirror{{URL: "https://e.example.org/*"}}, change: func(a *Archive) { a.Credentials = secret }, want: "archives.a.credentials: are those of the one `upstream`"},
	} {
		a := New("a")
		a.SignedBy = []string{"/k"}
		for _, m := range tt.upstreams {
			m.Priority, m.Weight = 2, 1 // not the short form of an upstream
			a.Upstreams = append(a.Upstreams, m)
		}
		if tt.change != nil {
			tt.change(&a)
		}
		c := &keys.Checker{NoFiles: true}
		Check(c, Archives{a}, Node{IsSelf: func(u *url.URL) bool { return u.Host == "self.example.org" }})
		var problems []string
		for _, p := range c.Problems {
			problems = append(problems, p.Message)
		}
		if tt.want == "" && len(problems) > 0 || tt.want != "" && !slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, tt.want) }) {
			t.Errorf("%s: %q, want %q", name, problems, tt.want)
		}
	}
}
