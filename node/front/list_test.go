package front

import (
	"strings"
	"testing"
)

// A host may name a list of mirrors that the node is configured with, and come through the node.
func TestLists(t *testing.T) {
	d := startFront(t, func(c *Config) {
		c.Archives[0].Deny = prefixes("127.0.0.2/32")
		c.Lists = []List{
			{URL: mustURL(t, "http://lists.example.org/mirrors.txt"), Archive: "ubuntu", Text: "http://a.example.org/u\tpriority:1\n"},
			{URL: mustURL(t, "http://archive.ubuntu.com/ubuntu/near.txt"), Archive: "ubuntu", Text: "http://b.example.org/u\n"},
			{URL: mustURL(t, "http://lists.example.org:8080/new.txt"), Archive: "ubuntu"},
			{URL: mustURL(t, "http://all.example.org"), Archive: "ubuntu", Text: "http://b.example.org/u\n"},
		}
	})
	for target, want := range map[string]string{
		"http://lists.example.org/mirrors.txt":      "200 http://a.example.org/u\tpriority:1\n",
		"http://LISTS.example.org.:80/mirrors.txt":  "200 http://a.example.org/u\tpriority:1\n",
		"http://archive.ubuntu.com/ubuntu/near.txt": "200 http://b.example.org/u\n", // not a file of the archive
		"http://lists.example.org:8080/new.txt":     "503 the list of mirrors http://lists.example.org:8080/new.txt is not known yet",
		"http://lists.example.org:8080/mirrors.txt": "403 this is no open proxy",
		"http://all.example.org/DE.txt":             "200 http://b.example.org/u\n",
		"http://lists.example.org/other.txt":        "403 this is no open proxy",
		"http://lists.example.org/mirrors.txt?x":    "200 http://a.example.org/u\tpriority:1\n",
	} {
		got := d.raw("GET " + target + " HTTP/1.1\nHost: x\nConnection: close\n\n")
		status, text, _ := strings.Cut(want, " ")
		if !strings.HasPrefix(got, "HTTP/1.1 "+status) || !strings.Contains(got, text) {
			t.Errorf("%s: %s", target, got)
		}
	}
	if got := d.from("127.0.0.2", "GET http://lists.example.org/mirrors.txt HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.HasPrefix(got, "HTTP/1.1 403") {
		t.Errorf("a client that may not have the archive: %s", got)
	}
}
