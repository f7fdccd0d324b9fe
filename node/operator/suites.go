package operator

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/config/keys"
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
	for _, st := range o.cfg.Catalog.Stats() {
		if st.Suite == id {
			return st.Date
		}
	}
	return time.Time{}
}

// suiteNamed reads ARCHIVE/SUITE.
func (o *Operator) suiteNamed(name string) (proto.Suite, error) {
	archive, rest, err := splitSuite(name, o.cfg.Archives.Config())
	if err != nil {
		return proto.Suite{}, err
	}
	dir, err := url.PathUnescape(rest)
	if err != nil {
		return proto.Suite{}, err
	}
	id := proto.Suite{Archive: archive, Dir: strings.TrimSuffix(dir, "/")}
	if o.cfg.Catalog.Knows(id) {
		return id, nil
	}
	id = o.cfg.Archives.FormatOf(archive).SuiteNamed(dir)
	id.Archive = archive
	return id, nil
}

// splitSuite splits ARCHIVE/SUITE. The archive's name may have slashes; the longest that fits counts. "ARCHIVE/" is the
// suite of a flat repository.
func splitSuite(name string, cfg *config.Config) (archive, suite string, err error) {
	var all []string // names of archives, and forms of the names that archives of classes have
	for _, a := range cfg.Archives {
		all = append(all, a.Name)
		if _, in := below(name, a.Name); in && len(a.Name) > len(archive) {
			archive = a.Name
		}
	}
	forms := archives.Classes(cfg).Forms()
	here := "; the archives here are " + strings.Join(slices.Concat(all, forms), ", ")
	if len(all)+len(forms) == 0 {
		here = "; the configuration has none"
	}
	if archive != "" {
		rest, _ := below(name, archive)
		switch {
		case rest != "":
			return archive, rest, nil
		case strings.HasSuffix(name, "/"):
			return archive, "./", nil
		}
		return "", "", fmt.Errorf("%s is an archive, and no suite: write ARCHIVE/SUITE, such as %s/noble, or %s/ if it is a flat repository", archive, archive, archive)
	}
	if m, _, ok := archives.Classes(cfg).Named(name); ok {
		return "", "", fmt.Errorf("no host has asked for the archive %s of the class %s yet; the first request of a host reads it from upstream", m.Name, m.Class)
	}
	if meant, ok := nearestSuite(name, all); ok {
		return "", "", fmt.Errorf("no archive here has a suite %s; did you mean %s?%s", name, meant, strings.Replace(here, "; the", " The", 1))
	}
	return "", "", fmt.Errorf("no archive here has a suite %s: write ARCHIVE/SUITE, such as ubuntu/noble%s", name, here)
}

// below is the rest of a name that begins with the name of an archive.
func below(name, archive string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(name+"/", archive+"/")
	return strings.TrimSuffix(rest, "/"), ok
}

// nearestSuite is the name with the archive that was probably meant in place of the one that it begins with.
func nearestSuite(name string, known []string) (string, bool) {
	parts := strings.Split(name, "/")
	for depth := len(parts); depth > 0; depth-- {
		same := slices.DeleteFunc(slices.Clone(known), func(a string) bool { return strings.Count(a, "/")+1 != depth })
		if meant, ok := keys.Nearest(strings.Join(parts[:depth], "/"), same); ok {
			return strings.Join(append([]string{meant}, parts[depth:]...), "/"), true
		}
	}
	return "", false
}
