package deb

import (
	"fmt"
	"regexp"
	"strings"
)

// counted is the beginning of a line of apt's progress: "Err:3 ".
var counted = regexp.MustCompile(`^(Get|Hit|Ign|Err):[0-9]+\s+`)

// compressions are those of an index that most archives have, most common first.
var compressions = []string{".xz", ".gz", ".zst", ".bz2", ".lzma", ""}

// DescribedURLs are the URLs that a line on a host's screen can mean, most likely first. apt writes a file of an
// archive as "URL SUITE InRelease" or "URL SUITE/COMPONENT ARCHITECTURE Packages" (the Description of
// Acquire::IndexTargets in apt-pkg/init.cc, and debReleaseIndex::GetIndexTargets in deb/debmetaindex.cc), and a
// file that failed as "E: Failed to fetch URL". In which compression apt asked for an index does not show. Without
// an error and without a URL, the text is no such line.
func DescribedURLs(line string) ([]string, error) {
	line = counted.ReplaceAllString(strings.TrimSpace(line), "")
	if _, failed, ok := strings.Cut(line, "Failed to fetch "); ok {
		return strings.Fields(failed)[:min(1, len(strings.Fields(failed)))], nil
	}
	words := strings.Fields(line)
	if len(words) < 2 || !strings.Contains(words[0], "://") {
		return nil, nil
	}
	suite := words[1]
	flat := strings.HasSuffix(suite, "/")
	dir := strings.TrimSuffix(words[0], "/") + "/dists/" + suite
	if flat {
		dir = strings.TrimSuffix(strings.TrimSuffix(words[0], "/")+"/"+strings.Trim(strings.TrimPrefix(suite, "."), "/"), "/")
	}
	index := func(name string) []string {
		urls := make([]string, len(compressions))
		for i, c := range compressions {
			urls[i] = dir + "/" + name + c
		}
		return urls
	}
	switch rest := words[2:]; {
	case len(rest) == 1 && (rest[0] == "InRelease" || rest[0] == "Release" || rest[0] == "Release.gpg"):
		return []string{dir + "/" + rest[0]}, nil
	case len(rest) == 1 && flat && (rest[0] == "Packages" || rest[0] == "Sources"):
		return index(rest[0]), nil
	case len(rest) == 1 && rest[0] == "Sources":
		return index("source/Sources"), nil
	case len(rest) == 1 && !flat && strings.HasPrefix(rest[0], "Translation-"):
		return index("i18n/" + rest[0]), nil
	case len(rest) == 2 && rest[1] == "Packages":
		return index("binary-" + rest[0] + "/Packages"), nil
	}
	return nil, fmt.Errorf("apt's line %q does not say the URL; take the one from apt's line that begins with \"E: Failed to fetch\", or from `apt-get --print-uris`", line)
}
