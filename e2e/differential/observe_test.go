package differential

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// observation is how some commands of apt ended and what the host has from them.
type observation struct {
	exit       map[string]int      // by command
	complaints map[string][]string // kinds of them, by command
	packages   []string            // what apt-cache knows: name, version, architecture, where it is
	lists      map[string]string   // what apt keeps of the metadata: name -> sum
	files      map[string]string   // what was downloaded: name -> sum
	said       string              // all that apt said, for people
}

// observe runs `apt-get update` on a host and, if it is to, the downloads. base is the URL
// of the archive as the host knows it.
func (s *site) observe(t *testing.T, host *lab.Apt, base string, download bool) observation {
	t.Helper()
	o := observation{exit: map[string]int{}, complaints: map[string][]string{}}
	run := func(args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		what := strings.Join(args[:2], " ")
		cmd := host.Command(ctx, args[0], args[1:]...)
		out, _ := cmd.CombinedOutput() // the exit code tells
		o.exit[what] = -1
		if cmd.ProcessState != nil {
			o.exit[what] = cmd.ProcessState.ExitCode()
		}
		o.complaints[what] = kinds(string(out), host.Dir, base)
		o.said += fmt.Sprintf("$ %s # exit %d\n", strings.Join(args, " "), o.exit[what])
		if args[0] == "apt-get" {
			o.said += string(out)
		}
		return string(out)
	}
	run("apt-get", "update", "-q")
	o.packages = stanzas(run("apt-cache", "dumpavail"))
	o.lists = sums(t, filepath.Join(host.Dir, "state", "lists"), func(name string) string {
		return strings.Replace(name, listName(base), "URL", 1)
	})
	if !download {
		return o
	}
	if len(s.debs) > 0 {
		run(append([]string{"apt-get", "download"}, s.debs...)...)
	}
	if len(s.srcs) > 0 {
		run(append([]string{"apt-get", "source", "--download-only"}, s.srcs...)...)
	}
	o.files = sums(t, host.Work(), func(name string) string { return name })
	return o
}

// listName is how apt names lists of that URL (URItoFileName in strutl.cc).
func listName(base string) string {
	_, rest, _ := strings.Cut(base, "://")
	var b strings.Builder
	for _, c := range []byte(rest) {
		switch {
		case c == '/':
			b.WriteByte('_')
		case c <= 0x20 || c >= 0x7f || strings.IndexByte(`\|{}[]<>"^~_=!@#$%&*`, c) >= 0:
			fmt.Fprintf(&b, "%%%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// stanzas are the packages of a dumpavail, one line each.
func stanzas(avail string) (all []string) {
	for stanza := range strings.SplitSeq(strings.TrimSpace(avail), "\n\n") {
		var words []string
		for line := range strings.Lines(stanza) {
			switch field, value, _ := strings.Cut(line, ":"); field {
			case "Package", "Version", "Architecture", "Filename", "Size", "SHA256":
				words = append(words, strings.TrimSpace(value))
			}
		}
		if words != nil {
			all = append(all, strings.Join(words, " "))
		}
	}
	slices.Sort(all)
	return all
}

func sums(t *testing.T, dir string, rename func(string) string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		if e.IsDir() || e.Name() == "lock" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[rename(e.Name())] = fmt.Sprintf("%d bytes %.8x", len(data), sha256.Sum256(data))
	}
	return all
}

var (
	complaint = regexp.MustCompile(`(?m)^\s*[WEN]: .*$`)
	peer      = regexp.MustCompile(`\s*\[IP: [^]]*\]`)
	numbers   = regexp.MustCompile(`\d+`)
	// What a failed download says after the URL are the server's own words.
	reason = regexp.MustCompile(`(Failed to fetch \S+).*`)
)

// kinds are the complaints in what apt said, without what differs from host to host.
func kinds(said, dir, base string) []string {
	var all []string
	for _, line := range complaint.FindAllString(said, -1) {
		line = strings.NewReplacer(base, "URL", listName(base), "URL", dir, "ROOT").Replace(strings.TrimSpace(line))
		line = numbers.ReplaceAllString(reason.ReplaceAllString(peer.ReplaceAllString(line, ""), "$1"), "#")
		if !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	slices.Sort(all)
	return all
}

// differences says in which ways a host that asked a node is worse or better off than one
// that asked the archive. Commands that only one of them ran do not count.
func differences(direct, ours observation) (all []string) {
	for _, what := range slices.Sorted(maps.Keys(ours.exit)) {
		if _, both := direct.exit[what]; !both {
			continue
		}
		if d, o := direct.exit[what], ours.exit[what]; d != o {
			all = append(all, fmt.Sprintf("%s: exit code %d, directly %d", what, o, d))
		}
		all = append(all, listed(what+" complains", direct.complaints[what], ours.complaints[what])...)
	}
	all = append(all, listed("packages", direct.packages, ours.packages)...)
	all = append(all, named("list", direct.lists, ours.lists)...)
	if direct.files != nil && ours.files != nil {
		all = append(all, named("file", direct.files, ours.files)...)
	}
	return all
}

func listed(what string, direct, ours []string) (all []string) {
	for _, line := range ours {
		if !slices.Contains(direct, line) {
			all = append(all, fmt.Sprintf("%s: only through the node: %s", what, line))
		}
	}
	for _, line := range direct {
		if !slices.Contains(ours, line) {
			all = append(all, fmt.Sprintf("%s: only directly: %s", what, line))
		}
	}
	return all
}

func named(what string, direct, ours map[string]string) (all []string) {
	names := maps.Clone(direct)
	maps.Copy(names, ours)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if d, o := direct[name], ours[name]; d != o {
			all = append(all, fmt.Sprintf("%s %s: %q, directly %q", what, name, o, d))
		}
	}
	return all
}
