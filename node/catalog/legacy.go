package catalog

import (
	"encoding/json"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// legacyRecord is a suite's state as the first edition wrote it: the root's file was told by
// whether there was a signature beside it, and intervals were dates.
type legacyRecord struct {
	Suite     proto.Suite      `json:"suite"`
	Current   legacyGen        `json:"current"`
	Retained  []legacyGen      `json:"retained"`
	Uses      map[string]int64 `json:"uses"`
	Asked     int64            `json:"asked"`
	Checked   int64            `json:"checked"`
	TakenBack int64            `json:"taken_back"`
	Lead      string           `json:"lead"`
}

type legacyGen struct {
	Suite      proto.Suite `json:"suite"`
	Date       time.Time   `json:"date"`
	Root       proto.Ref   `json:"root"`
	Signature  proto.Ref   `json:"signature"`
	Modified   time.Time   `json:"modified"`
	Superseded time.Time   `json:"superseded"`
	Staged     map[string]struct {
		Ref proto.Ref `json:"ref"`
	} `json:"staged"`
}

// convert makes a record of today's form of it. Package tables are read again: they were made
// otherwise.
func (l *legacyRecord) convert(f Format, now time.Time) *record {
	ago := func(unix int64) int64 { return max(now.Unix()-unix, 0) }
	r := &record{Suite: l.Suite, Demand: make(map[string]int64, len(l.Uses)), Asked: ago(l.Asked)}
	r.Machine = suite.Record{Floor: l.Current.Date, Primary: l.Lead}
	if l.Checked > 0 {
		r.Machine.Checked = time.Unix(l.Checked, 0).UTC()
	}
	if l.TakenBack > 0 {
		r.Machine.TakenBack = time.Unix(l.TakenBack, 0).UTC()
	}
	for path, last := range l.Uses {
		r.Demand[path] = ago(last)
	}
	current := l.Current.convert(f, now)
	r.Current = &current
	for _, g := range l.Retained {
		r.Retained = append(r.Retained, g.convert(f, now))
	}
	return r
}

func (l *legacyGen) convert(f Format, now time.Time) genRecord {
	forms := f.Forms()
	g := genRecord{Generation: proto.Generation{Suite: l.Suite, Date: l.Date, Root: l.Root, Modified: l.Modified, RootName: forms[0].Files[0].Name}}
	if beside := forms[len(forms)-1]; !l.Signature.IsZero() && len(beside.Files) > 1 {
		g.RootName = beside.Files[0].Name
		g.Companions = []proto.Companion{{Name: beside.Files[1].Name, Ref: l.Signature, Modified: l.Modified, Proof: true}}
	}
	if !l.Superseded.IsZero() {
		g.Superseded = int64(max(now.Sub(l.Superseded), 0) / time.Second)
	}
	g.Staged = make(map[string]view.Staged, len(l.Staged))
	for path, s := range l.Staged {
		g.Staged[path] = view.Staged{Ref: s.Ref}
	}
	return g
}

// readLegacy reads a record of the first edition; nil where it is none.
func (c *Catalog) readLegacy(data []byte) *record {
	var l legacyRecord
	if json.Unmarshal(data, &l) != nil || l.Current.Root.IsZero() {
		return nil
	}
	a := c.archive(l.Suite.Archive)
	if a == nil {
		return nil
	}
	return l.convert(a.Format, c.cfg.Now())
}
