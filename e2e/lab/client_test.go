package lab_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// TestClient holds the client to what apt was seen to do.
func TestClient(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 1000)
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	modified := "Fri, 02 Jan 2026 03:04:05 GMT"
	good := func(b []byte) bool { return bytes.Equal(b, body) }
	for _, test := range []struct {
		name    string
		effects []testarchive.Effect
		times   int
		order   lab.Order
		tries   int
		done    bool
		wrong   bool
	}{
		{name: "whole", tries: 1, done: true},
		{name: "resumed", order: lab.Order{Has: body[:300], Modified: modified}, tries: 1, done: true},
		{name: "another version", order: lab.Order{Has: []byte("xyz"), Modified: "Fri, 02 Jan 2026 03:04:06 GMT"}, tries: 1, done: true},
		{name: "unchanged", order: lab.Order{Modified: modified}, tries: 1, done: true},
		{name: "broken off once", effects: []testarchive.Effect{testarchive.Truncate(500)}, times: 1, tries: 2, done: true},
		{name: "always 503", effects: []testarchive.Effect{testarchive.Status(503, 0)}, tries: 4},
		{name: "503 without a body", effects: []testarchive.Effect{testarchive.EmptyStatus(503)}, tries: 1},
		{name: "404", effects: []testarchive.Effect{testarchive.Status(404, 0)}, tries: 1},
		{name: "wrong length", effects: []testarchive.Effect{testarchive.WrongLength(1)}, order: lab.Order{Size: int64(len(body))}, tries: 1},
		{name: "wrong bytes", effects: []testarchive.Effect{testarchive.WrongBytes(7)}, tries: 1, wrong: true},
		{name: "a range that starts elsewhere", effects: []testarchive.Effect{testarchive.Header("Content-Range", "bytes 1-9999/10000")},
			order: lab.Order{Has: body[:300], Modified: modified}, tries: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := testarchive.New(1)
			a.Put("f", body, date)
			s := testarchive.NewServer(a)
			defer s.Close()
			if test.effects != nil {
				s.Inject("f", test.times, test.effects...)
			}
			test.order.URL, test.order.Good = s.URL+"/f", good
			c := lab.Client{Wait: func(context.Context, int, time.Duration) {}}
			d := c.Get(context.Background(), test.order)
			if len(d.Tries) != test.tries || d.Done() != test.done || d.Wrong != test.wrong {
				t.Errorf("%d tries, done %v, wrong %v: %s, %v; want %d, %v, %v", len(d.Tries), d.Done(), d.Wrong, d.Why(), d.Last().Err, test.tries, test.done, test.wrong)
			}
			if d.Body != nil && !good(d.Body) {
				t.Error("a body that is not good")
			}
		})
	}
}
