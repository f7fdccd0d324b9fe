package archives

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/proto"
)

func tableOf(cfg *config.Config) *Table {
	return NewTable(cfg, keptLists{}, slog.New(slog.DiscardHandler))
}

func TestRestricted(t *testing.T) {
	open, closed := archiveconf.New("open"), archiveconf.New("closed")
	closed.Deny = append(closed.Deny, netip.MustParsePrefix("192.0.2.0/24"))
	cfg := config.Default()
	cfg.Archives = []archiveconf.Archive{open, closed}
	table := tableOf(cfg)
	for archive, want := range map[string]bool{"open": false, "closed": true, "unknown": true, proto.HandedOffArchive: false} {
		if got := table.Restricted(archive); got != want {
			t.Errorf("%s: restricted %v", archive, got)
		}
	}
}

// The roots that the catalog keeps are marked as all else that a restricted archive brings, and what an
// open archive brings too is open to all.
func TestRootsOfRestrictedArchivesAreMarked(t *testing.T) {
	closed := archiveconf.New("closed")
	closed.Allow = append(closed.Allow, netip.MustParsePrefix("192.0.2.0/24"))
	cfg := config.Default()
	cfg.Archives = []archiveconf.Archive{archiveconf.New("open"), closed}
	store, err := blobstore.Open(blobstore.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	table := tableOf(cfg)
	for _, step := range []struct {
		archive, root string
		only          []string
	}{
		{"closed", "mine", []string{"closed"}},
		{"closed", "mine", []string{"closed"}},
		{"open", "yours", nil},
		{"closed", "yours", nil},
		{"open", "mine", nil},
		{"gone", "who knows", []string{"gone"}},
	} {
		ref, err := Store{store, table}.Put(step.archive, []byte(step.root), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := store.Only(ref.Digest); !slices.Equal(got, step.only) {
			t.Errorf("%s brought %q: it is given through %q alone, want %q", step.archive, step.root, got, step.only)
		}
		if b, err := (Store{store, table}).Get(ref.Digest); err != nil {
			t.Error(err)
		} else {
			b.Close()
		}
	}
}

func TestInnerArchives(t *testing.T) {
	archive := func(name, url string, allow ...netip.Prefix) archiveconf.Archive {
		a := archiveconf.New(name)
		a.Upstream, a.Allow = url, allow
		return a
	}
	some := netip.MustParsePrefix("192.0.2.0/24")
	cfg := config.Default()
	cfg.Archives = []archiveconf.Archive{
		archive("v", "https://v.example.org/"), archive("open", "https://v.example.org/open"), archive("p~o", "http://V.example.org:80/p%7eo/", some),
		archive("deep", "https://v.example.org/p~o/a/deep", some), archive("other", "https://other.example.org/p~o", some),
	}
	for _, tt := range []struct{ archive, path, want string }{
		{"v", "x", ""}, {"v", "p~o", "p~o:"}, {"v", "p~o/dists/x", "p~o:dists/x"}, {"v", "p~ox/y", ""}, {"v", "open/x", ""}, {"v", "a/p~o/x", ""},
		{"v", "p~o/a/deep/x", "deep:x"}, {"p~o", "a/deep/x", "deep:x"}, {"p~o", "a/x", ""}, {"other", "a/deep/x", ""}, {"unknown", "p~o/x", ""},
	} {
		got := ""
		if loc, ok := innerOf(cfg)[tt.archive].at(tt.path); ok {
			got = loc.Archive + ":" + loc.Path
		}
		if got != tt.want {
			t.Errorf("%s of %s is %q, want %q", tt.path, tt.archive, got, tt.want)
		}
	}
	// An index of the archive around it may list what lies there.
	_, err := Source{Table: tableOf(cfg)}.Fetch(t.Context(), proto.Request{Loc: proto.Location{Archive: "v", Path: "p~o/x.deb"}})
	if !errors.As(err, new(*proto.Refused)) {
		t.Errorf("upstream is asked through the archive around it: %v", err)
	}
}
