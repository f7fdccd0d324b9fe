package rpm

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"
)

func TestHostLists(t *testing.T) {
	var lists HostLists
	for path, want := range map[string]string{
		"metalink": repomd, "mirrorlist": repomd, "40/os/metalink": "40/os/" + repomd, "40/os/mirrorlist": "40/os/" + repomd,
		"40/os/metalink.xml": "", "40/os/metalink/x": "", "": "", "xmetalink": "",
	} {
		if got := lists.Of(path); got != want {
			t.Errorf("%q is a list of %q, want %q", path, got, want)
		}
	}

	const at = "http://node:3142/fedora/40/a&b/os"
	root := []byte("<repomd/>")
	date := time.Unix(1713000000, 0)
	text, kind := lists.Write(at+"/metalink", root, date)
	if kind != "application/metalink+xml" || !strings.Contains(text, "<mm0:timestamp>1713000000<") || !strings.Contains(text, "<size>9<") {
		t.Errorf("%s: %s", kind, text)
	}
	// What vouches for a root here vouches for it at hosts.
	for name, bytes := range map[string][]byte{"the root": root, "another": []byte("<repomd />")} {
		got, superseded, err := findInMetalink([]byte(text), bytes, date.Add(time.Hour))
		if (err == nil) != (name == "the root") || err == nil && (superseded || !got.Equal(date)) {
			t.Errorf("%s: %v, %v, %v", name, got, superseded, err)
		}
	}
	var doc struct {
		URLs []string `xml:"files>file>resources>url"`
	}
	if err := xml.Unmarshal([]byte(text), &doc); err != nil || len(doc.URLs) != 1 || doc.URLs[0] != at+"/repodata/repomd.xml" {
		t.Errorf("%v, %v", doc, err)
	}
	if text, _ := lists.Write(at+"/metalink", root, time.Time{}); strings.Contains(text, "timestamp") {
		t.Errorf("a date that nobody knows: %s", text)
	}
	if text, kind := lists.Write(at+"/mirrorlist", root, date); text != at+"/\n" || !strings.HasPrefix(kind, "text/plain") {
		t.Errorf("%s: %q", kind, text)
	}
}
