package catalog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// inView resolves a path in one view, as one request sees it.
func (w *world) inView(e *proto.Resolution, v *archiveView, path string) bool {
	info := v.format.PathInfo(path)
	return w.resolve(e, v, w.loc(path), &info, false)
}

// isRefused reports whether an error is a refusal of this kind.
func isRefused(err error, kind string) bool {
	var r *suite.Refusal
	return errors.As(err, &r) && r.Kind == kind
}

// checkAtOnce has a suite's upstream asked without the pause of a second between two checks.
func checkAtOnce(d *driver) {
	done := make(chan struct{})
	d.mail.post(func() {
		d.machine.ForgetPause()
		close(done)
	})
	<-done
	d.request(context.Background(), suite.Request{Fresh: true, Since: true})
}

// Clients ask for a newer root by the Last-Modified that they were given last: it has to be true, and to change with each
// generation.
func TestRootModified(t *testing.T) {
	date := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	signed, wall := date.Add(time.Hour), date.Add(24*time.Hour)
	for _, c := range []struct {
		name      string
		upstreams time.Time
		own       bool
	}{
		{"written after it was signed", signed.Add(time.Hour), true},
		{"the second of its date", date, true}, // of two that are signed in one second, too
		{"none", time.Time{}, false},
		{"from before its date", date.Add(-time.Second), false},
		{"in the future", wall.Add(time.Second), false},
	} {
		for _, g := range []proto.Generation{{Date: date}, {Date: date, Signed: signed}, {Date: date, Signed: date.Add(-time.Hour)}} {
			want := date
			switch {
			case c.own:
				want = c.upstreams
			case g.Signed == signed:
				want = signed
			}
			if got := rootModified(c.upstreams, &g, wall); !got.Equal(want) {
				t.Errorf("%s: %v, want %v", c.name, got, want)
			}
		}
	}
}
