package upstream

import (
	"net/http"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

// Where clients give up soon, a mirror that does not answer is left in time for another one; the last one
// keeps its time.
func TestFirstByteInTime(t *testing.T) {
	const patience = 2 * time.Second
	for name, bad := range map[string]func(r *realm){
		"it cannot be reached": func(r *realm) { r.dialing(0, blackHole) },
		"it is silent":         func(r *realm) { r.at(0, silent) },
	} {
		bubble.Test(t, func(t *testing.T) {
			r := newRealm(t, 2)
			bad(r)
			req := get("pool/a")
			req.FirstByte = patience
			began := time.Now()
			tr, got := mustFetch(t, r.Client, req)
			if took := time.Since(began); tr.From != nameOf(1) || got != object || took > patience/2 {
				t.Errorf("%s: %s gave %q after %v", name, tr.From, got, took)
			}
		})
	}
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1)
		r.at(0, func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(patience)
			honest(w, req)
		})
		req := get("pool/a")
		req.FirstByte = patience
		if tr, got := mustFetch(t, r.Client, req); tr.From != nameOf(0) || got != object {
			t.Errorf("the only mirror gave %q", got)
		}
	})
}
