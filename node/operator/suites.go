package operator

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/proto"
)

// Refresh asks upstream about a suite at once: "ubuntu/noble" or
// "ubuntu/dists/noble". older also accepts a Release that is older than the current one.
func (o *Operator) Refresh(ctx context.Context, name string, older bool) (*admin.RefreshResult, error) {
	id, err := o.suiteNamed(name)
	if err != nil {
		return nil, err
	}
	r := &admin.RefreshResult{Suite: id.String(), From: o.dateOf(id)}
	r.Changed, err = o.cfg.Catalog.Refresh(ctx, id, older)
	r.To = o.dateOf(id)
	switch {
	case catalog.Reason(err) == "not_found": // the Release itself, not a file that it lists
		return nil, fmt.Errorf("upstream has no Release for %s", id)
	case err != nil:
		return nil, err
	case r.Changed:
		r.Message = fmt.Sprintf("adopted the generation of %s", r.To.Format(time.RFC3339))
	default:
		r.Message = fmt.Sprintf("upstream has nothing newer than the generation of %s", r.To.Format(time.RFC3339))
	}
	return r, nil
}

// Drop forgets a suite, named as for Refresh.
func (o *Operator) Drop(name string) (*admin.DropResult, error) {
	id, err := o.suiteNamed(name)
	if err != nil {
		return nil, err
	}
	if err := o.cfg.Catalog.Drop(id); err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	o.cfg.Logger.Warn("an operator has had this node forget a suite", "suite", id.String())
	return &admin.DropResult{Suite: id.String(), Message: "forgotten; the next check or request reads it anew, whatever its date"}, nil
}

func (o *Operator) dateOf(id proto.Suite) time.Time {
	for _, st := range o.cfg.Catalog.Status() {
		if st.Suite == id {
			return st.Date
		}
	}
	return time.Time{}
}

// suiteNamed reads ARCHIVE/SUITE. The archive's name may have slashes; the
// longest that fits counts.
func (o *Operator) suiteNamed(name string) (proto.Suite, error) {
	cfg := o.cfg.Archives.Config()
	var best string
	found := false
	for _, a := range cfg.Archives {
		if (name == a.Name || strings.HasPrefix(name, a.Name+"/")) && len(a.Name) >= len(best) {
			best, found = a.Name, true
		}
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(name, best), "/")
	if !found || rest == "" && !strings.HasSuffix(name, "/") {
		names := make([]string, len(cfg.Archives))
		for i, a := range cfg.Archives {
			names[i] = a.Name
		}
		return proto.Suite{}, fmt.Errorf("%q does not name a suite: write ARCHIVE/SUITE, such as ubuntu/noble; the archives here are %s", name, strings.Join(names, ", "))
	}
	if rest == "" {
		rest = "./"
	}
	dir, err := url.PathUnescape(rest)
	if err != nil {
		return proto.Suite{}, err
	}
	id := proto.Suite{Archive: best, Dir: strings.TrimSuffix(dir, "/")}
	if o.cfg.Catalog.Knows(id) {
		return id, nil
	}
	id = o.cfg.Archives.FormatOf(best).SuiteNamed(dir)
	id.Archive = best
	return id, nil
}
