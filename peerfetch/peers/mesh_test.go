package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/connectivity"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// pipeHandler answers with a stream that the test writes.
func pipeHandler() (handlerFunc, *io.PipeWriter) {
	r, w := io.Pipe()
	return func(ctx context.Context, _ string, _ proto.PeerRequest) (*proto.Blob, error) {
		context.AfterFunc(ctx, func() { r.CloseWithError(ctx.Err()) })
		return &proto.Blob{Ref: proto.Ref{Size: proto.UnknownSize}, Stream: r}, nil
	}, w
}

// A node that stops lets running transfers finish and takes no new ones.
func TestStop(t *testing.T) {
	h, w := pipeHandler()
	a, b := pair(t, Config{}, h)
	tr, err := a.Fetch(t.Context(), "b", wantAll())
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- b.Stop(t.Context()) }()
	<-b.serving.Done()
	for a.peer("b").data.GetState() == connectivity.Ready { // it has not been told yet
		if tr, err := a.Fetch(t.Context(), "b", wantAll()); err == nil {
			tr.Body.Close()
			t.Fatal("a stopping node took a request")
		}
	}
	if _, err := a.Fetch(t.Context(), "b", wantAll()); !isPeerFailed(err) {
		t.Error(err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a transfer running: %v", err)
	default:
	}
	go func() {
		w.Write([]byte("the rest"))
		w.Close()
	}()
	if got, err := body(tr); string(got) != "the rest" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A transfer that takes longer than the node has time for is cut.
func TestStopCuts(t *testing.T) {
	h, _ := pipeHandler()
	a, b := pair(t, Config{}, h)
	tr, err := a.Fetch(t.Context(), "b", wantAll())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := b.Stop(ctx); err != enough {
		t.Error(err)
	}
	if _, err := body(tr); !isPeerFailed(err) {
		t.Error(err)
	}
}

// Close ends what this node asks of others, and may come before Serve.
func TestClose(t *testing.T) {
	h, _ := pipeHandler()
	a, _ := pair(t, Config{}, h)
	tr, err := a.Fetch(t.Context(), "b", wantAll())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := body(tr); !isPeerFailed(err) {
		t.Error(err)
	}
	if _, err := a.Fetch(t.Context(), "b", wantAll()); !isPeerFailed(err) {
		t.Error(err)
	}
	a.SetView(viewOf(t, a)) // changes nothing
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	idle, err := New(Config{Name: "c", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := idle.Close(); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{Name: "c", Listen: "nowhere.invalid:1"}); err == nil {
		t.Error("listens nowhere")
	}
}

// A node that leaves the view, or comes back elsewhere, keeps the transfers that
// run; new ones go where it is now. Then its connections are closed.
func TestViewChanges(t *testing.T) {
	for _, change := range []string{"left", "moved"} {
		t.Run(change, func(t *testing.T) {
			h, w := pipeHandler()
			a, b := pair(t, Config{}, h)
			old := a.peer("b")
			tr, err := a.Fetch(t.Context(), "b", wantAll())
			if err != nil {
				t.Fatal(err)
			}
			a.SetView(viewOf(t, a, b)) // changes nothing
			if a.peer("b") != old {
				t.Fatal("the same node became another")
			}
			next := viewOf(t, a)
			if change == "moved" {
				next = viewOf(t, a, newMesh(t, "b", Config{Handler: handlerFunc(said)}))
			}
			a.SetView(next)
			if old.ctx.Err() == nil {
				t.Error("it is still watched")
			}
			tr2, err := a.Fetch(t.Context(), "b", wantAll())
			if change == "left" {
				if !isPeerFailed(err) {
					t.Errorf("asked a node that has left: %v", err)
				}
			} else if err != nil {
				t.Error(err)
			} else if got, err := body(tr2); string(got) != "a" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if s := old.data.GetState(); s != connectivity.Ready {
				t.Errorf("the connection with a transfer is %v", s)
			}
			go func() {
				w.Write([]byte("x"))
				w.Close()
			}()
			if got, err := body(tr); string(got) != "x" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if s := old.data.GetState(); s != connectivity.Shutdown {
				t.Errorf("the connection without transfers is %v", s)
			}
		})
	}
}

// An address is what the dialler makes of it, whatever it would be as a URL.
func TestAddresses(t *testing.T) {
	for _, addr := range []string{"[fe80::1%eth0]:3143", "node-b.example:3143", "x y%z?#"} {
		got := make(chan string, 1)
		a := newMesh(t, "a", Config{Dial: func(_ context.Context, addr string) (net.Conn, error) {
			select {
			case got <- addr:
			default:
			}
			return nil, errors.New("not now")
		}})
		a.SetView(viewAt(t, "b", addr))
		if _, err := tell(t, a); !isPeerFailed(err) || !strings.Contains(err.Error(), "not now") {
			t.Error(err)
		}
		if dialled := <-got; dialled != addr {
			t.Errorf("%q was dialled as %q", addr, dialled)
		}
	}
}

// A peer that comes back is found again within the longest pause between two
// attempts.
func TestRedial(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b, n := inMemory(t, link{delay: 10 * time.Millisecond}, Config{}, said)
		if _, err := tell(t, a); err != nil {
			t.Fatal(err)
		}
		b.Close()
		synctest.Wait()
		if _, err := tell(t, a); !isPeerFailed(err) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		newMesh(t, "b", Config{listen: n.listen, Dial: n.dial, Listen: "b:1", Handler: handlerFunc(said)})
		time.Sleep(redialMax * 3 / 2)
		if got, err := tell(t, a); got != "a" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// A node that sent wrong bytes is not asked for a while, wherever it is, and
// everybody can see why.
func TestDistrust(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := new(logged)
		a, b, _ := inMemory(t, link{}, Config{Logger: log.logger()}, said)
		wrong := errors.New("blob 0badc0de has another hash")
		a.Distrust("b", wrong)
		check := func() {
			t.Helper()
			_, err := tell(t, a)
			if !isPeerFailed(err) || !errors.Is(err, wrong) {
				t.Error(err)
			}
			if s := a.Peers()[0]; s.Name != "b" || s.Quarantined != wrong.Error() || s.QuarantinedUntil.IsZero() {
				t.Errorf("%+v", s)
			}
			if n := a.quarantine.Each(time.Now(), nil); n != 1 {
				t.Errorf("%d in quarantine", n)
			}
		}
		check()
		a.SetView(viewOf(t, a))
		a.SetView(viewOf(t, a, b))
		time.Sleep(9 * time.Minute)
		check()
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "node=b") || !strings.Contains(log.String(), wrong.Error()) {
			t.Error(log)
		}
		time.Sleep(time.Minute)
		if got, err := tell(t, a); got != "a" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if s := a.Peers()[0]; s.Quarantined != "" || !s.QuarantinedUntil.IsZero() || a.quarantine.Each(time.Now(), nil) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Bytes are counted by node and direction, answers by outcome.
func TestMetrics(t *testing.T) {
	b := content(3 * chunkSize)
	var told error
	requester, server := pair(t, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
		return &proto.Blob{Ref: proto.Ref{Size: int64(len(b))}, Bytes: b}, told
	})
	tr, err := requester.Fetch(t.Context(), "b", wantAll())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := body(tr); err != nil || !bytes.Equal(got, b) {
		t.Fatal(err)
	}
	told = proto.ErrNotFound
	if _, err := requester.Fetch(t.Context(), "b", wantAll()); !errors.Is(err, proto.ErrNotFound) {
		t.Fatal(err)
	}
	server.Stop(t.Context()) // all is counted then
	if s := requester.Peers(); len(s) != 1 || s[0].BytesIn != int64(len(b)) || s[0].BytesOut != 0 || s[0].Datacenter != "dc-b" || s[0].State != "active" {
		t.Errorf("%+v", s)
	}
	if s := server.Peers(); s[0].BytesOut != int64(len(b)) || s[0].BytesIn != 0 {
		t.Errorf("%+v", s)
	}
	for _, tt := range []struct {
		m    *Mesh
		name string
		want float64
	}{
		{requester, `aptmesh_peer_bytes_total peer=b direction=in`, float64(len(b))},
		{server, `aptmesh_peer_bytes_total peer=a direction=out`, float64(len(b))},
		{requester, `aptmesh_peer_fetches_total outcome=ok`, 1},
		{requester, `aptmesh_peer_fetches_total outcome=not_found`, 1},
		{server, `aptmesh_peer_serves_total outcome=ok`, 1},
		{server, `aptmesh_peer_serves_total outcome=not_found`, 1},
		{requester, `aptmesh_peer_first_byte_seconds`, 1},
		{requester, `aptmesh_peer_quarantined`, 0},
	} {
		if got := metric(t, tt.m, tt.name); got != tt.want {
			t.Errorf("%s is %v, want %v", tt.name, got, tt.want)
		}
	}
}

// metric returns the value of "name label=value ...", or a histogram's count.
func metric(t *testing.T, m *Mesh, name string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	for _, c := range m.Collectors() {
		if err := registry.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	wanted := strings.Fields(name)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetName()+"="+l.GetValue()] = true
			}
			matches := f.GetName() == wanted[0]
			for _, label := range wanted[1:] {
				matches = matches && have[label]
			}
			if matches {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	t.Errorf("there is no %s", name)
	return -1
}
