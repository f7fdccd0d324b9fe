package rpm_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

const metalinkURL = "https://mirrors.example.org/metalink?repo=fedora-40&arch=x86_64"

// metalinked is the format of an archive that has a metalink for the repository "os" alone.
func metalinked() *rpm.Format {
	return rpm.New(rpm.Config{Metalink: func(s proto.Suite) string {
		if s.Dir == "os" {
			return metalinkURL
		}
		return ""
	}})
}

// The bytes of repomd.xml have to be those that the metalink names, now or as an alternate.
func TestMetalink(t *testing.T) {
	old := rpmarchive.Repo{Date: day1, Packages: few}.Render("")[root]
	current := rpmarchive.Repo{Date: day2, Packages: few}.Render("")[root]
	undated := rpmarchive.Repo{Date: day2, Revision: "x", Records: []rpmarchive.Record{{Type: "primary", Ext: ".gz", Bare: true}}}.Render("")[root]
	named := func(text []byte, date time.Time, sums ...string) rpmarchive.Named {
		return rpmarchive.Named{Repomd: text, Date: date, Sums: sums}
	}
	sum256, _ := hexSums(current)
	whole := string(rpmarchive.Metalink(named(current, day2), named(old, day1)))
	for _, test := range []struct {
		name     string
		metalink string
		root     []byte
		date     time.Time // zero: it is refused
		why      string
	}{
		{"the current one", whole, current, day2, ""},
		{"an alternate", whole, old, day1, ""},
		{"an alternate with other sums", string(rpmarchive.Metalink(named(current, day2, "sha512"), named(old, day1, "sha256"))), old, day1, ""},
		{"the current one again as another", string(rpmarchive.Metalink(named(current, day2), named(current, day1))), current, day2, ""},
		{"none of them", whole, undated, time.Time{}, "none of the files"},
		{"one byte more", whole, append(bytes.Clone(current), '\n'), time.Time{}, "none of the files"},
		{"SHA-256 alone", string(rpmarchive.Metalink(named(current, day2, "sha256"))), current, day2, ""},
		{"SHA-512 alone", string(rpmarchive.Metalink(named(current, day2, "sha512"))), current, day2, ""},
		{"weak sums", string(rpmarchive.Metalink(named(current, day2, "md5", "sha1"))), current, time.Time{}, "none of the files"},
		{"the strongest sum is another one", strings.Replace(string(rpmarchive.Metalink(named(old, day2, "sha512"))), "</verification>",
			`<hash type="sha256">`+sum256+"</hash></verification>", 1), current, time.Time{}, "none of the files"},
		{"no date but that of the metalink", string(rpmarchive.Metalink(named(undated, day1))), undated, day1, ""},
		{"another file", strings.Replace(whole, `name="repomd.xml"`, `name="other.xml"`, 1), current, time.Time{}, "none of the files"},
		{"cut short", strings.TrimSuffix(whole, "</metalink>\n"), current, time.Time{}, "no end"},
		{"a page", "<html><body>log in</body></html>", current, time.Time{}, "no end"},
		{"nothing", "", current, time.Time{}, "no end"},
		{"too many", strings.Replace(whole, "<mm0:alternates>", "<mm0:alternates>"+strings.Repeat("<mm0:alternate><verification></verification></mm0:alternate>", 2000), 1), current, time.Time{}, "more than is allowed"},
		{"too large", whole + strings.Repeat(" ", 1<<20), current, time.Time{}, "larger than allowed"},
	} {
		m, err := metalinked().Open(proto.Suite{Dir: "os"}, map[string][]byte{root: test.root, proto.WitnessFile: []byte(test.metalink)}, now)
		var rejected *proto.Rejected
		switch {
		case test.date.IsZero():
			if !errors.As(err, &rejected) || rejected.Kind != proto.RejectUntrusted || !strings.Contains(err.Error(), test.why) {
				t.Errorf("%s: %v", test.name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", test.name, err)
		case !m.Proven || !m.Date.Equal(test.date) || m.Superseded != strings.Contains(test.name, "alternate"):
			t.Errorf("%s: proven %v, date %v, superseded %v", test.name, m.Proven, m.Date, m.Superseded)
		}
	}
}

// Without the metalink, as from the disk or from another node, a root is read and not proven. A
// repository that no metalink is for is refused.
func TestWithoutMetalink(t *testing.T) {
	f := metalinked()
	files := map[string][]byte{root: rpmarchive.Repo{Date: day1, Packages: few}.Render("")[root]}
	if m, err := f.Open(proto.Suite{Dir: "os"}, files, now); err != nil || m.Proven {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := f.Open(proto.Suite{Dir: "debug"}, files, now); err == nil || !strings.Contains(err.Error(), "`metalink:`") {
		t.Errorf("a repository without metalink: %v", err)
	}
	if form := f.Forms(proto.Suite{Dir: "os"})[0]; form.Witness != metalinkURL || !form.Files[1].Optional {
		t.Errorf("%+v", form)
	}
	if form := f.Forms(proto.Suite{Dir: "debug"})[0]; form.Witness != "" {
		t.Errorf("%+v", form)
	}
}

// FuzzMetalink holds that only the bytes that a sum in the metalink names are vouched for.
func FuzzMetalink(f *testing.F) {
	text := rpmarchive.Repo{Date: day1, Packages: few}.Render("")[root]
	f.Add(rpmarchive.Metalink(rpmarchive.Named{Repomd: text, Date: day1}))
	f.Add(rpmarchive.Metalink(rpmarchive.Named{Repomd: []byte("x")}, rpmarchive.Named{Repomd: text, Date: day1, Sums: []string{"sha256"}}))
	f.Add([]byte(`<metalink><file name='repomd.xml'><verification><hash type="sha512">`))
	format := metalinked()
	sum256, sum512 := hexSums(text)
	f.Fuzz(func(t *testing.T, metalink []byte) {
		m, err := format.Open(proto.Suite{Dir: "os"}, map[string][]byte{root: text, proto.WitnessFile: metalink}, now)
		if err != nil {
			return
		}
		said := strings.ToLower(string(metalink))
		if !m.Proven || !strings.Contains(said, sum256) && !strings.Contains(said, sum512) {
			t.Fatalf("a metalink without its sums vouches for it")
		}
	})
}

func hexSums(b []byte) (sum256, sum512 string) {
	return testarchive.Sum(testarchive.SHA256, b), testarchive.Sum(testarchive.SHA512, b)
}
