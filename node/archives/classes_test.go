package archives

import (
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
)

func TestWithMembers(t *testing.T) {
	cfg := config.Default()
	class, own := archiveconf.New("ppa"), archiveconf.New("own")
	class.Upstream, class.Aliases = "http://p.example.org/*/*/ubuntu", []string{"http://q.example.org/*/*/ubuntu"}
	class.SignedBy, class.CheckEvery = []string{"/k"}, 7
	own.Upstream = "https://p.example.org/mine/own/ubuntu"
	own.Aliases = []string{"http://q.example.org/half/own/ubuntu"}
	cfg.Archives = []archiveconf.Archive{class, own}
	got := withMembers(cfg, []string{"ppa/a/b", "ppa/mine/own", "ppa/half/own", "ppa/short", "gone/x", "ppa/a/b/more"})
	var names []string
	for _, a := range got.Archives {
		names = append(names, a.Name)
	}
	if !slices.Equal(names, []string{"own", "ppa/a/b", "ppa/half/own"}) || len(got.Classes) != 1 || len(cfg.Archives) != 2 {
		t.Fatal(names, got.Classes, cfg.Archives)
	}
	a, half := got.Archives[1], got.Archives[2]
	if a.Class != "ppa" || a.CheckEvery != 7 || a.Led || !slices.Equal(a.SignedBy, class.SignedBy) || !slices.Equal(a.Aliases, []string{"http://q.example.org/a/b/ubuntu"}) || len(half.Aliases) != 0 {
		t.Errorf("%+v, %+v", a, half)
	}
}
