package aptconf

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseMirrorList(t *testing.T) {
	for _, tt := range []struct {
		name    string
		text    string
		want    []string // "URL priority", "-" for none
		notices []string // a part of each
		err     string
	}{
		{
			name: "the mirrors.txt of Ubuntu: a URL per line",
			text: "http://archive.ubuntu.com/ubuntu/\nhttp://de.archive.ubuntu.com/ubuntu/\nhttps://mirror.example.org/pub/mirrors/ubuntu\n",
			want: []string{"http://archive.ubuntu.com/ubuntu -", "http://de.archive.ubuntu.com/ubuntu -", "https://mirror.example.org/pub/mirrors/ubuntu -"},
		},
		{
			name: "comments, blank lines, DOS line ends, no last line end, tabs and spaces, and priorities",
			text: "# of all kinds\r\n\r\n  \t\nhttp://last.example.org/d\r\nhttp://b.example.org/d\tpriority:2\r\nhttp://a.example.org/d priority:1 flavour:sweet\r\n#http://no.example.org\r\nhttp://B2.example.org:80//d/./\t \tPriority:2",
			want: []string{"http://a.example.org/d 1", "http://b.example.org/d 2", "http://b2.example.org/d 2", "http://last.example.org/d -"},
		},
		{
			name: "the example of apt-transport-mirror(1)",
			text: "file:/srv/local/mirror/\tpriority:1 type:index\nhttp://partial.example.org/mirror/ priority:2 arch:amd64 arch:all type:deb\nhttp://us.example.org/d/ type:deb\nhttps://whole.example.org/d/\n",
			want: []string{"https://whole.example.org/d -"},
			notices: []string{
				"l:1: file:/srv/local/mirror/: is on this machine", "l:2: http://partial.example.org/mirror/: holds only a part of the archive (arch:amd64)", "l:3: http://us.example.org/d/: holds only a part of the archive (type:deb)",
			},
		},
		{
			name:    "what cannot be asked",
			text:    "ftp://a.example.org/d\nrsync://a.example.org/d\nmirror+http://a.example.org/list\nhttp:///d\nhttp://u:hunter2@a.example.org/d\nhttp://a.example.org/d?x\nhttp://a.example.org/../d\nhttp://*.example.org/d\nhttp://a.example.org/e priority:high\nhttp://a.example.org/f priority:-1\nhttp://good.example.org\n",
			want:    []string{"http://good.example.org -"},
			notices: []string{`scheme "ftp"`, `scheme "rsync"`, "one cannot stand within another", "names no host", "//***@a.example.org/d: holds a user or password", "query", "l:7: http://a.example.org/../d: is not the URL", "l:8:", `the priority "high"`, `the priority "-1"`},
		},
		{
			name: "each mirror once, with the best of its priorities",
			text: "http://a.example.org/d priority:5\nhttp://b.example.org/d priority:4\nHTTP://A.example.org:80/d/ priority:3\n",
			want: []string{"http://a.example.org/d 3", "http://b.example.org/d 4"},
		},
		{name: "empty", err: "names no mirror"},
		{name: "only comments", text: "# nothing\n", err: "names no mirror"},
		{name: "a page", text: "<html><body>\nIt works!\n</body></html>\n", err: "names no mirror", notices: []string{"<html><body>", "It", "</body>"}},
		{name: "compressed", text: "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", err: "names no mirror", notices: []string{"l:1:"}},
		{name: "too long", text: strings.Repeat("# long\n", MaxMirrorList/7+1), err: "longer than"},
		{
			name: "too many lines", text: strings.Repeat("\n", maxMirrorLines-1) + "http://in.example.org\nhttp://out.example.org\n",
			want: []string{"http://in.example.org -"}, notices: []string{"only the first 4096 lines"},
		},
		{
			name: "a priority beyond any", text: "http://a.example.org priority:4294967295\nhttp://b.example.org priority:0\n",
			want: []string{"http://b.example.org 0", "http://a.example.org -"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mirrors, notices, err := ParseMirrorList("l", []byte(tt.text))
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			var got []string
			for _, m := range mirrors {
				priority := fmt.Sprint(m.Priority)
				if m.Priority == NoPriority {
					priority = "-"
				}
				got = append(got, m.URL.String()+" "+priority)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("mirrors %q, want %q", got, tt.want)
			}
			if len(notices) != len(tt.notices) {
				t.Errorf("notices %v, want %q", notices, tt.notices)
			}
			for i, n := range notices {
				if i < len(tt.notices) && !strings.Contains(n.String(), tt.notices[i]) {
					t.Errorf("notice %q, want %q", n, tt.notices[i])
				}
				if strings.Contains(n.String(), "hunter2") {
					t.Errorf("a notice shows a password: %s", n)
				}
			}
		})
	}
}

// A list that is all wrong does not fill the log.
func TestMirrorListNoticesAreBounded(t *testing.T) {
	_, notices, err := ParseMirrorList("l", []byte(strings.Repeat("ftp://"+strings.Repeat("x", 5000)+"\n", 100)))
	if err == nil || len(notices) != maxMirrorNotices {
		t.Errorf("%d notices, %v", len(notices), err)
	}
	for _, n := range notices {
		if len(n.String()) > 300 {
			t.Errorf("a notice of %d bytes", len(n.String()))
		}
	}
}

func TestParseListURL(t *testing.T) {
	for in, want := range map[string]string{
		"mirror://Mirrors.Ubuntu.com/mirrors.txt":           "mirror+http://mirrors.ubuntu.com/mirrors.txt",
		"mirror+http://mirrors.ubuntu.com:80/DE.txt":        "mirror+http://mirrors.ubuntu.com/DE.txt",
		"mirror+https://mirrors.example.org:8443/a?country": "mirror+https://mirrors.example.org:8443/a?country",
		"mirror+file:/etc/apt/mirrors.txt":                  "mirror+file:/etc/apt/mirrors.txt",
		"mirror+file:///etc/apt/../mirrors.txt":             "mirror+file:/etc/mirrors.txt",
		"mirror+copy:/etc/apt/mirrors.txt":                  "mirror+file:/etc/apt/mirrors.txt",
		"mirror+file:mirrors.txt":                           "mirror+file:mirrors.txt",
		"mirror+https://a.org/m?repo=9&arch=x#/9/os/":       "mirror+https://a.org/m?repo=9&arch=x#9/os",
		"mirror+file:m.txt#9/BaseOS/$basearch/os":           "mirror+file:m.txt#9/BaseOS/$basearch/os",
	} {
		got, err := ParseListURL(in)
		if err != nil || got.String() != want {
			t.Errorf("%s is %s, %v; want %s", in, got, err, want)
		}
		if again, err := ParseListURL(got.String()); err != nil || again.String() != want {
			t.Errorf("%s, written %s, is %s, %v", in, got, again, err)
		}
		if !IsMirrorList(in) {
			t.Errorf("%s is no list of mirrors", in)
		}
	}
	for _, in := range []string{
		"http://mirrors.ubuntu.com/mirrors.txt", "mirror+ftp://a/b", "mirror+mirror://a/b", "mirror:/a", "mirror+file:", "mirror+file:/",
		"mirror+file://host/list", "mirror+http://u:hunter2@a/b", "mirror+http://a/b#", "mirror+http://a/b#/", "mirror+http://a/b#../c", "mirror+http://a/b#c?d", "mirror+http://a/b#c#d", "mirror+http://*.a/b", "mirror+http://a b/",
	} {
		if got, err := ParseListURL(in); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s is %s, %v", in, got, err)
		}
	}
	if IsMirrorList("http://mirror.example.org/mirror") || IsMirrorList("mirrored://a") {
		t.Error("an archive passes for a list of mirrors")
	}
}

// FuzzMirrorList looks for crashes, and for mirrors that nobody could ask.
func FuzzMirrorList(f *testing.F) {
	f.Add("http://archive.ubuntu.com/ubuntu/\nhttps://mirror.example.org/pub\tpriority:1 type:deb\n")
	f.Add("# x\r\nHTTP://A:80//b/./c priority:4294967295\nhttp://HTTPS///host/path\n")
	f.Add("file:/x\nmirror:/y\nhttp://u:p@h/\nhttp://[::1]:80/x%2f..%00\n")
	f.Fuzz(func(t *testing.T, text string) {
		mirrors, notices, err := ParseMirrorList("l", []byte(text))
		if (err == nil) != (len(mirrors) > 0) || len(notices) > maxMirrorNotices {
			t.Fatalf("%d mirrors, %d notices, %v", len(mirrors), len(notices), err)
		}
		// Written back as the node keeps it, a list says the same.
		var kept strings.Builder
		for i, m := range mirrors {
			switch {
			case m.URL.Scheme != "http" && m.URL.Scheme != "https", m.URL.Hostname() == "", m.URL.User != nil:
				t.Fatalf("%q cannot be asked", m.URL)
			case i > 0 && m.Priority < mirrors[i-1].Priority:
				t.Fatalf("%s comes after a mirror that is to be asked later", m.URL)
			}
			fmt.Fprintf(&kept, "%s\tpriority:%d\n", m.URL, m.Priority)
		}
		again, _, err := ParseMirrorList("kept", []byte(kept.String()))
		if len(mirrors) > 0 && (err != nil || !slices.EqualFunc(mirrors, again, func(a, b ListedMirror) bool {
			return a.Priority == b.Priority && a.URL.String() == b.URL.String()
		})) {
			t.Fatalf("%q is kept as %q, which is %v, %v", text, kept.String(), again, err)
		}
	})
}
