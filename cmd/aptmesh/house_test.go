package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/aptmesh/aptmesh"

// rule says what one room may import of ours, and why not more. A room also
// covers the packages below it that have no rule of their own.
type rule struct {
	room string
	may  []string
	why  string
}

// The plan of the house: imports run down only. docs/architecture.md draws it.
var plan = []rule{
	{"proto", nil, "it holds the nouns every room speaks; a noun that knew a room would tie all rooms together"},
	{"proto/expiring", nil, "it is a map with a bound and an end for each entry; whoever remembers something for a while uses it"},
	{"proto/sourcetest", []string{"proto"}, "every source of bytes passes it, so it knows none"},
	{"ring", []string{"proto/expiring"}, "who is there and who owns a key is plain arithmetic over names; what the keys mean is not known there"},
	{"aptmeta", []string{"proto", "node/format/pgp", "node/format/plain"}, "it only reads: what it says of a file must not depend on a disk, a clock or a network"},
	{"aptmeta/testarchive", []string{"proto", "aptmeta"}, "an archive to test against must not share code with what is tested"},
	{"node/durable", nil, "it is the order of system calls that makes a file durable; what the file means is not known there"},
	{"node/durable/durabletest", []string{"node/durable"}, "a disk that fails on demand must fail for every room alike"},
	{"node/statedir", []string{"proto", "node/durable"}, "it keeps small files under names and must not learn what they mean"},
	{"node/blobstore", []string{"proto", "node/durable"}, "it keeps bytes by digest and must not learn what they mean"},
	{"node/upstream", []string{"proto", "proto/expiring"}, "it moves bytes over HTTP and must not learn what they mean"},
	{"node/format/plain", nil, "it knows compressions; every format reads its indexes through it, so it knows none"},
	{"node/format/pgp", nil, "it knows keys and signatures; in which form a format wants them is not known there"},
	{"node/format/deb", []string{"proto", "aptmeta", "node/format/pgp", "node/format/plain"}, "it says what Debian's files mean in the words of proto; who asks, and what is done with the answer, is not known there"},
	{"node/format/rpm", []string{"proto", "node/format/pgp", "node/format/plain"}, "it says what the files of an RPM repository mean in the words of proto; who asks, and what is done with the answer, is not known there"},
	{"node/format/rpm/rpmarchive", []string{"aptmeta/testarchive"}, "a repository to test against must not share code with what is tested"},
	{"node/format/pacman", []string{"proto", "node/format/pgp", "node/format/plain"}, "it says what pacman's files mean in the words of proto; who asks, and what is done with the answer, is not known there"},
	{"node/format/pacman/testrepo", []string{"aptmeta/testarchive"}, "a repository to test against must not share code with what is tested"},
	{"node/format/formattest", []string{"proto"}, "every format passes it, so it knows none"},
	{"node/aptconf", nil, "it reads this machine's apt sources and decides nothing"},
	{"peerfetch", []string{"proto", "ring", "proto/expiring"}, "it joins sources and readers; where bytes are kept and what they mean is given to it"},
	{"peerfetch/holdings", []string{"proto"}, "it is a set of digests and its summary; whose, and how it travels, is not known there"},
	{"peerfetch/peers", []string{"proto", "proto/peerpb", "ring", "peerfetch/holdings", "proto/expiring"}, "it is the other nodes as this one sees them; flights use it, not the other way round"},
	{"node/catalog", []string{"proto", "proto/expiring"}, "it believes; bytes come through interfaces, so that a peer may bring them tomorrow, and a format reads them, so that another one may"},
	{"node/catalog/suite", []string{"proto"}, "it decides; whoever drives it has the clock, the disk and the network"},
	{"node/catalog/view", []string{"proto"}, "it answers from memory for any set of generations; it judges none, reads no format and starts nothing"},
	{"node/front", []string{"proto", "proto/expiring"}, "it answers hosts; what a path means and where bytes come from is given to it"},
	{"node/prefetch", []string{"proto", "proto/expiring"}, "it guesses what hosts will ask for; where bytes come from and what is current is given to it, so that it can only ever read ahead"},
	{"node/holds", []string{"proto", "proto/expiring"}, "it holds what it is told to; what a generation lists, where bytes come from and who is in the cluster is given to it"},
	{"node/holds/want", []string{"proto"}, "it chooses; whoever asks reads roots and indexes, and fetches"},
	{"node/holds/rows", []string{"proto"}, "it is a set of digests in a file; what it is for is not known there"},
	{"node/holds/holdconf", []string{"node/blobstore", "node/config/keys"}, "it is what the configuration says of mirrors; tools that only read it must not import what holds"},
	{"node/snapshot/names", []string{"proto"}, "it is a map that nodes merge; what a name stands for is not known there"},
	{"node/snapshot/snapshotconf", []string{"node/config/keys", "node/snapshot/names"}, "it is what the configuration says of snapshots that are taken by themselves; tools that only read it must not import what takes them"},
	{"node/snapshot/schedule", []string{"node/snapshot/snapshotconf"}, "it decides what is due; whoever does it has the clock, the disk and the network"},
	{"node/snapshot/diff", []string{"proto"}, "it compares two lists of packages; which they are, and where bytes come from, is given to it"},
	{"node/snapshot/bundle", []string{"proto"}, "it is files in a directory that people carry; what they mean, and whether they may be believed, is not known there"},
	{"node/snapshot/tree", []string{"proto"}, "it writes files under names; what they are, and where they come from, is given to it"},
	{"node/snapshot/offline", []string{"proto", "node/snapshot"}, "it says which files a snapshot is, and takes them in; how they travel between sites is not known there"},
	{"node/snapshot", []string{"proto", "node/snapshot/names", "node/snapshot/schedule", "node/snapshot/snapshotconf"}, "it keeps names, records and pins; what a path means in a snapshot is the catalog's to say, and is given to it"},
	{"node/pki", nil, "it reads and makes the cluster's certificates and keys; who connects with them is not known there"},
	{"node/admin", []string{"proto", "node/listen"}, "commands import it without a node; what it shows is given to it"},
	{"node/config", []string{"node/admin", "node/archives/archiveconf", "node/blobstore", "node/catalog", "node/cluster/clusterconf", "node/aptconf", "node/files", "node/front", "node/holds/holdconf", "node/keyrings", "node/listen", "node/pki", "node/prefetch", "node/snapshot/snapshotconf", "node/upstream"}, "it is the sections of the rooms put together, and checks that they make sense together; it starts nothing, so that any tool may read a configuration"},
	{"node/config/keys", []string{"node/blobstore", "node/files", "node/upstream"}, "it reads, checks and prints any section; which keys there are is not known there"},
	{"node/archives/archiveconf", []string{"node/aptconf", "node/classes", "node/config/keys", "node/files", "node/format/pgp", "node/keyrings", "node/listen", "node/otherlists", "node/upstream"}, "it is what the configuration says of an archive; what a node does with it is not known there"},
	{"node/cluster/clusterconf", []string{"node/config/keys", "node/files", "node/listen", "node/pki"}, "it is what the configuration says of the cluster; tools that only read it must not import the cluster"},
	{"node/classes", []string{"node/aptconf"}, "it is arithmetic over URLs and names; which archives there are is not known there"},
	{"node/otherlists", []string{"node/aptconf"}, "it reads text; where lists come from, and which mirrors are used, is not known there"},
	{"node/files", nil, "it reads a whole file that an operator named; what is in it is not known there"},
	{"node/keyrings", []string{"node/files", "node/format/pgp"}, "it says which keys an entry of signed_by means; whose they are, and what they sign, is not known there"},
	{"node/mirrorlist", []string{"node/archives/archiveconf", "node/aptconf", "node/config", "node/files", "node/otherlists", "node/upstream"}, "it says which mirrors there are; how each does, and what they are asked for, is not known there"},
	{"node/listen", nil, "it knows addresses to listen on, and binds them; who connects, and what for, is not known there"},
	{"node/loops", []string{"proto", "peerfetch", "peerfetch/peers"}, "it looks at who asked and passes the request on; what is asked for is not known there"},
	{"node/archives", []string{"proto", "node/format/pgp", "node/aptconf", "node/classes", "node/config", "node/keyrings", "node/mirrorlist", "node/format/deb", "node/format/rpm", "node/format/pacman", "node/blobstore", "node/upstream", "node/catalog", "node/front", "node/holds/want", "node/prefetch", "node/snapshot/diff", "node/snapshot/offline"},
		"it says in the words of each room what an archive is, so it knows their words; who owns the rooms, and when they start and stop, is not known there"},
	{"node/cluster", []string{"proto", "ring", "peerfetch/peers", "peerfetch/holdings", "node/admin", "node/config", "node/pki"}, "it is what being one of many adds; what other nodes ask for is answered by rooms that are given to it"},
	{"node/operator", []string{"proto", "node/admin", "node/archives", "node/blobstore", "node/catalog", "node/cluster", "node/archives/archiveconf", "node/config", "node/config/keys", "node/front", "node/holds", "node/holds/want", "node/prefetch", "node/snapshot", "node/snapshot/diff", "node/snapshot/offline", "node/snapshot/snapshotconf", "node/statedir", "node/upstream", "peerfetch"},
		"it puts what all rooms say of themselves into one answer, so it knows them; it serves none of it, and starts and stops nothing"},
	{"node", []string{"proto", "node/admin", "node/archives", "node/cluster", "node/config", "node/listen", "node/loops", "node/operator", "node/mirrorlist", "ring", "peerfetch", "peerfetch/peers", "node/format/deb", "node/blobstore", "node/statedir", "node/upstream", "node/catalog", "node/front", "node/holds", "node/holds/want", "node/prefetch", "node/snapshot", "node/snapshot/snapshotconf"},
		"it is the only room that knows all rooms, and nothing above it"},
	{"cmd/aptmesh", []string{"proto", "node", "node/admin", "node/config", "node/config/keys", "node/pki", "node/archives", "node/archives/archiveconf", "node/blobstore", "node/files", "node/snapshot/bundle", "node/snapshot/tree"}, "it parses flags and prints; whoever embeds a node must not need it; what works without a node (verify, client-config, the files of an export) it asks of the room that knows"},
	{"e2e", []string{"proto", "node/snapshot/bundle", "aptmeta", "aptmeta/testarchive", "node/format/pacman/testrepo", "node/format/rpm/rpmarchive", "node", "node/admin", "node/config", "node/format/deb", "e2e/lab"}, "it drives the built binary, as a user would"},
}

// pure rooms must not even import what would let them do I/O.
var pure = map[string][]string{
	"proto":              {"net", "net/http", "database/sql", "os/exec"},
	"aptmeta":            {"net", "net/http", "os", "os/exec", "time/tzdata"},
	"node/holds/want":    {"net", "net/http", "os", "os/exec", "sync", "context"},
	"node/catalog/view":  {"net", "net/http", "os", "os/exec", "sync/atomic", "context", "log/slog"},
	"node/catalog/suite": {"net", "net/http", "os", "os/exec", "sync", "sync/atomic", "context", "math/rand/v2", "io"},
	"node/format/deb":    {"net", "net/http", "os", "os/exec"},
	"node/format/rpm":    {"net", "net/http", "os", "os/exec"},
	"node/format/pacman": {"net", "net/http", "os", "os/exec"},
	"node/format/pgp":    {"net", "net/http", "os", "os/exec"},
	"node/format/plain":  {"net", "net/http", "os", "os/exec"},
}

type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// TestHouse holds the imports of every package against the plan.
func TestHouse(t *testing.T) {
	for _, p := range listPackages(t) {
		room := strings.TrimPrefix(p.ImportPath, module+"/")
		r, ok := ruleFor(room)
		if !ok {
			t.Errorf("%s has no place in the plan of the house: add a rule that says what it may import, and why", room)
			continue
		}
		for _, imported := range ours(p.Imports) {
			if imported != r.room && !strings.HasPrefix(imported, room+"/") && !slices.Contains(r.may, imported) {
				t.Errorf("%s must not import %s: %s", room, imported, r.why)
			}
		}
		for _, forbidden := range pure[r.room] {
			if room == r.room && slices.Contains(p.Imports, forbidden) {
				t.Errorf("%s must not import %s: %s", room, forbidden, r.why)
			}
		}
		for _, imported := range ours(slices.Concat(p.TestImports, p.XTestImports)) {
			helpers := []string{"proto", "proto/bubble", "aptmeta/testarchive", "node/durable/durabletest", "proto/sourcetest"}
			allowed := imported == room || slices.Contains(helpers, imported) || slices.Contains(r.may, imported) ||
				imported == "node/format/formattest" && strings.HasPrefix(room, "node/format/") ||
				// A catalog and a plan of what to fetch ahead are tested with real formats.
				strings.HasPrefix(imported, "node/format/") && (room == "node/catalog" || room == "node/prefetch" || room == "node/snapshot/diff" || room == "node/holds/want") || imported == "aptmeta" && room == "node/catalog" ||
				// What a crash leaves behind depends on how the state is written.
				imported == "node/statedir" && room == "node/snapshot"
			if !allowed && !strings.HasPrefix(imported, r.room+"/") {
				t.Errorf("the tests of %s must not import %s: %s", room, imported, r.why)
			}
		}
	}
}

// TestTopLevel keeps the front hall tidy.
func TestTopLevel(t *testing.T) {
	allowed := []string{"cmd", "node", "ring", "proto", "peerfetch", "aptmeta", "deploy", "e2e", "docs",
		"go.mod", "go.sum", "Makefile", "README.md", "LICENSE", "CHANGELOG.md"}
	out, err := exec.Command("git", "-C", root(), "ls-files").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		top, _, _ := strings.Cut(name, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(allowed, top) {
			t.Errorf("%s does not belong at the top level", top)
		}
	}
}

func ruleFor(room string) (rule, bool) {
	var best rule
	for _, r := range plan {
		if (room == r.room || strings.HasPrefix(room, r.room+"/")) && len(r.room) > len(best.room) {
			best = r
		}
	}
	// A room under node/ must have a rule of its own: the one of node would let
	// it import its neighbours.
	if best.room == "node" && room != "node" {
		return rule{}, false
	}
	return best, best.room != ""
}

func ours(imports []string) []string {
	var rooms []string
	for _, i := range imports {
		if room, ok := strings.CutPrefix(i, module+"/"); ok {
			rooms = append(rooms, room)
		}
	}
	return rooms
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < len(plan)-2 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// root is the root of the repository: a test runs in the directory of its package.
func root() string { return filepath.Join("..", "..") }
