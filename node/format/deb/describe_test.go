package deb

import (
	"slices"
	"strings"
	"testing"
)

// What a host's screen shows of a file leads to its URL.
func TestDescribedURLs(t *testing.T) {
	for line, want := range map[string]string{
		"http://a.example.org/ubuntu noble InRelease":                                                      "http://a.example.org/ubuntu/dists/noble/InRelease",
		"Err:3 http://a.example.org/ubuntu noble/ InRelease":                                               "http://a.example.org/ubuntu/noble/InRelease",
		"Ign:12 http://a.example.org ./ Release.gpg":                                                       "http://a.example.org/Release.gpg",
		"Err:1 https://a.example.org/debian bookworm/updates/main amd64 Packages":                          "https://a.example.org/debian/dists/bookworm/updates/main/binary-amd64/Packages.xz",
		"http://a.example.org/debian ./ Packages":                                                          "http://a.example.org/debian/Packages.xz",
		"http://a.example.org/debian sid/main Sources":                                                     "http://a.example.org/debian/dists/sid/main/source/Sources.xz",
		"http://a.example.org/debian sid/main Translation-en":                                              "http://a.example.org/debian/dists/sid/main/i18n/Translation-en.xz",
		"E: Failed to fetch http://a.example.org/debian/pool/m/x_1.deb  404  Not Found [IP: 192.0.2.1 80]": "http://a.example.org/debian/pool/m/x_1.deb",
		"W: Failed to fetch http://a.example.org/InRelease  no answer":                                     "http://a.example.org/InRelease",
		"E: Failed to fetch ":                        "",
		"http://a.example.org/debian/pool/m/x_1.deb": "",
		"CONNECT a.example.org:443":                  "",
		"ubuntu/dists/noble/InRelease":               "",
		"":                                           "",
	} {
		urls, err := DescribedURLs(line)
		if err != nil || want == "" && len(urls) > 0 || want != "" && (len(urls) == 0 || urls[0] != want) {
			t.Errorf("%q: %q, %v; want %q", line, urls, err, want)
		}
	}
	urls, _ := DescribedURLs("http://a.example.org/debian sid/main amd64 Packages")
	if !slices.Contains(urls, "http://a.example.org/debian/dists/sid/main/binary-amd64/Packages") || !slices.Contains(urls, "http://a.example.org/debian/dists/sid/main/binary-amd64/Packages.gz") {
		t.Errorf("%q", urls)
	}
	for _, line := range []string{"Get:1 http://a.example.org/debian sid/main amd64 hello amd64 2.10-3 [53.1 kB]", "http://a.example.org/debian noble"} {
		if urls, err := DescribedURLs(line); err == nil || !strings.Contains(err.Error(), "E: Failed to fetch") || len(urls) > 0 {
			t.Errorf("%q: %q, %v", line, urls, err)
		}
	}
}
