package otherlists

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// fedora is a metalink as MirrorManager writes it: each mirror with several protocols, the nearest first.
const fedora = `<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" type="dynamic" pubdate="Wed, 01 May 2024 10:00:00 GMT" generator="mirrormanager" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files>
  <file name="repomd.xml">
   <mm0:timestamp>1713000000</mm0:timestamp>
   <size>4567</size>
   <verification><hash type="sha256">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</hash></verification>
   <mm0:alternates><mm0:alternate><mm0:timestamp>1712000000</mm0:timestamp></mm0:alternate></mm0:alternates>
   <resources maxconnections="1">
    <url protocol="rsync" type="rsync" location="DE" preference="100">rsync://near.example.org/fedora/releases/40/Everything/x86_64/os/repodata/repomd.xml</url>
    <url protocol="http" type="http" location="DE" preference="98">http://far.example.org/pub/linux/releases/40/Everything/x86_64/os/repodata/repomd.xml</url>
    <url protocol="http" type="http" location="DE" preference="100">http://near.example.org/fedora/releases/40/Everything/x86_64/os/repodata/repomd.xml</url>
    <url protocol="https" type="https" location="DE" preference="100">https://near.example.org/fedora/releases/40/Everything/x86_64/os/repodata/repomd.xml</url>
    <url protocol="https" type="https" location="AT" preference="99">
      https://odd.example.org/mirrors/40/repodata/repomd.xml
    </url>
    <url protocol="https" type="https" location="AT" preference="97">https://page.example.org/index.html</url>
   </resources>
  </file>
  <file name="other.xml"><resources><url protocol="https" preference="100">https://other.example.org/fedora/releases/40/Everything/x86_64/os/repodata/repomd.xml</url></resources></file>
 </files>
</metalink>
`

func TestParse(t *testing.T) {
	const os40 = "releases/40/Everything/x86_64/os"
	for _, tc := range []struct {
		name, text, below string
		want              string // URLs with priorities that are given
		notices           int
		err               string
	}{
		{name: "a metalink of a repository", text: fedora, below: os40, notices: 1, want: "https://near.example.org/fedora http://far.example.org/pub/linux"},
		{
			name: "a metalink of the archive itself", text: "\ufeff\n" + fedora,
			want: "https://near.example.org/fedora/releases/40/Everything/x86_64/os https://odd.example.org/mirrors/40 http://far.example.org/pub/linux/releases/40/Everything/x86_64/os",
		},
		{name: "of another repository", text: fedora, below: "updates/40", notices: 3, err: "none of its 3 URLs ends with"},
		{name: "a metalink that was cut off", text: fedora[:len(fedora)-20], err: "no metalink that can be read"},
		{name: "a page", text: "<!DOCTYPE html><html><body>Sign in<br></body></html>", err: "no metalink that can be read"},
		{name: "another document", text: "<html></html>", err: "no metalink that can be read"},
		{name: "a metalink without mirrors", text: `<metalink><files><file name="repomd.xml"/></files></metalink>`, err: "names no mirror of http or https"},
		{
			name: "a list of dnf", below: "9/BaseOS/$basearch/os", notices: 2,
			text: "# repo = baseos\nhttps://a.example.org/almalinux/9/BaseOS/$basearch/os/\nhttp://b.example.org/9/BaseOS/$basearch/os\nhttps://c.example.org/8/BaseOS/$basearch/os/\nrsync://d.example.org/x/9/BaseOS/$basearch/os/\n",
			want: "https://a.example.org/almalinux http://b.example.org",
		},
		{name: "a variable", text: "https://a.example.org/9/BaseOS/$basearch/os/\n", notices: 1, err: "names no mirror"},
		{name: "of the archive itself", text: "https://a.example.org/epel/\r\nhttps://b.example.org/epel\n", want: "https://a.example.org/epel https://b.example.org/epel"},
		{name: "apt's", text: "https://a.example.org/u\tpriority:2\nhttps://b.example.org/u priority:1\n", want: "https://b.example.org/u=1 https://a.example.org/u=2"},
		{
			name: "pacman's",
			text: "## Germany\n#Server = https://off.example.org/archlinux/$repo/os/$arch\nServer = https://a.example.org/archlinux/$repo/os/$arch\nServer=https://b.example.org/$repo/os/$arch\nServer = https://c.example.org/all # x\n",
			want: "https://a.example.org/archlinux https://b.example.org",
			// The comment behind a URL is none for pacman.
			notices: 1,
		},
		{name: "nothing", text: "\n# nothing\n", err: "names no mirror"},
		{name: "too long", text: strings.Repeat("x", aptconf.MaxMirrorList+1), err: "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mirrors, notices, err := Parse("list", []byte(tc.text), tc.below)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("%v, %v; want an error with %q", mirrors, err, tc.err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range mirrors {
				said := m.URL.String()
				if m.Priority != aptconf.NoPriority {
					said += fmt.Sprint("=", m.Priority)
				}
				got = append(got, said)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("%v\nwant %v", got, tc.want)
			}
			if len(notices) != tc.notices {
				t.Errorf("%d notices: %v", len(notices), notices)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fedora), "releases/40/Everything/x86_64/os")
	f.Add([]byte("Server = https://a.example.org/$repo\n"), "")
	f.Fuzz(func(t *testing.T, text []byte, below string) {
		mirrors, notices, err := Parse("list", text, below)
		if (err == nil) != (len(mirrors) > 0) {
			t.Errorf("%d mirrors, %v", len(mirrors), err)
		}
		for _, m := range mirrors {
			if m.URL.Hostname() == "" || m.URL.Scheme != "http" && m.URL.Scheme != "https" {
				t.Errorf("a mirror %q", m.URL)
			}
		}
		if len(notices) > 3*maxNotices {
			t.Errorf("%d notices", len(notices))
		}
	})
}
