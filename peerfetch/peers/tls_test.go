package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/aptmesh/aptmesh/proto"
)

// said answers everything with the name of who asks.
func said(_ context.Context, from string, _ proto.PeerRequest) (*proto.Blob, error) {
	return &proto.Blob{Ref: proto.Ref{Size: int64(len(from))}, Bytes: []byte(from)}, nil
}

// secured is a node a that may ask node b, each with its own TLS, and their logs.
func secured(t *testing.T, tlsA, tlsB *TLS) (a *Mesh, logA, logB *logged) {
	t.Helper()
	logA, logB = new(logged), new(logged)
	a = newMesh(t, "a", Config{TLS: tlsA, Logger: logA.logger()})
	b := newMesh(t, "b", Config{TLS: tlsB, Logger: logB.logger(), Handler: handlerFunc(said)})
	acquaint(t, a, b)
	return a, logA, logB
}

// tell asks b, and returns what it says.
func tell(t *testing.T, a *Mesh) (string, error) {
	t.Helper()
	tr, err := a.Fetch(t.Context(), "b", wantAll())
	if err != nil {
		return "", err
	}
	got, err := body(tr)
	return string(got), err
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t, "ours")
	a, _, _ := secured(t, ca.node(t, "a"), ca.node(t, "b"))
	if got, err := tell(t, a); got != "a" || err != nil {
		t.Errorf("b takes its caller for %q, %v", got, err)
	}
}

// Who is not let in, and what each side writes into its log of it.
func TestTLSRefused(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	with := func(cert *tls.Certificate, roots *x509.CertPool) *TLS {
		return &TLS{
			Certificate: func() (*tls.Certificate, error) { return cert, nil },
			Roots:       func() (*x509.CertPool, error) { return roots, nil },
		}
	}
	good := func(name string) *tls.Certificate { return ours.certificate(t, time.Hour, name) }
	for _, tt := range []struct {
		name       string
		a, b       *TLS
		logA, logB string // what must be in the log
	}{
		{
			name: "another node answers",
			a:    with(good("a"), ours.roots()), b: with(good("c"), ours.roots()),
			logA: "its certificate is for c, not for node b",
		}, {
			name: "a wildcard answers",
			a:    with(good("a"), ours.roots()), b: with(good("*"), ours.roots()),
			logA: "its certificate is for *, not for node b",
		}, {
			name: "a certificate without a name answers",
			a:    with(good("a"), ours.roots()), b: with(ours.certificate(t, time.Hour), ours.roots()),
			logA: "it has no DNS name",
		}, {
			name: "a foreign authority answers",
			a:    with(good("a"), ours.roots()), b: with(theirs.certificate(t, time.Hour, "b"), ours.roots()),
			logA: "not signed by an authority of this cluster",
		}, {
			name: "an expired certificate answers",
			a:    with(good("a"), ours.roots()), b: with(ours.certificate(t, -time.Minute, "b"), ours.roots()),
			logA: "has expired",
		}, {
			name: "a foreign authority calls",
			a:    with(theirs.certificate(t, time.Hour, "a"), ours.roots()), b: with(good("b"), ours.roots()),
			logB: "not signed by an authority of this cluster",
		}, {
			name: "an expired certificate calls",
			a:    with(ours.certificate(t, -time.Minute, "a"), ours.roots()), b: with(good("b"), ours.roots()),
			logB: "has expired",
		}, {
			name: "the certificate of another node calls",
			a:    with(good("c"), ours.roots()), b: with(good("b"), ours.roots()),
			logB: "the certificate is for c, not for node a",
		}, {
			name: "nobody calls",
			a:    with(&tls.Certificate{}, ours.roots()), b: with(good("b"), ours.roots()),
			logB: "didn't provide a certificate",
		}, {
			name: "plain TCP calls",
			a:    nil, b: with(good("b"), ours.roots()),
			logB: "first record does not look like a TLS handshake",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, logA, logB := secured(t, tt.a, tt.b)
			got, err := tell(t, a)
			if failed := new(proto.PeerFailed); !errors.As(err, &failed) {
				t.Fatalf("b answered %q, %v", got, err)
			}
			wantLogged(t, logA, tt.logA)
			wantLogged(t, logB, tt.logB)
		})
	}
}

// wantLogged waits until a node has written that down: it may still be about to
// when the other knows already.
func wantLogged(t *testing.T, log *logged, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in the log: %q\n%s", text, log)
		}
	}
}

// Certificates and authorities change while nodes run: the next connection has
// the new ones.
func TestTLSRotation(t *testing.T) {
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	var now [2]atomic.Pointer[authority]
	rotating := func(i int, name string) *TLS {
		now[i].Store(first)
		return &TLS{
			Certificate: func() (*tls.Certificate, error) { return now[i].Load().certificate(t, time.Hour, name), nil },
			Roots:       func() (*x509.CertPool, error) { return now[i].Load().roots(), nil },
		}
	}
	tlsA, tlsB := rotating(0, "a"), rotating(1, "b")
	a := newMesh(t, "a", Config{TLS: tlsA})
	b := newMesh(t, "b", Config{TLS: tlsB, Handler: handlerFunc(said)})
	nobody := viewOf(t, a)
	ask := func() error {
		a.SetView(nobody) // closes the connections
		a.SetView(viewOf(t, a, b))
		_, err := tell(t, a)
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	now[1].Store(second)
	if err := ask(); err == nil {
		t.Error("a believes an authority that it has not heard of")
	}
	now[0].Store(second)
	if err := ask(); err != nil {
		t.Error(err)
	}
	now[0].Store(first)
	if err := ask(); err == nil {
		t.Error("b still believes an authority that it was told to forget")
	}
}

// A node that cannot read its own files says so.
func TestTLSUnreadable(t *testing.T) {
	ca := newAuthority(t, "ours")
	broken := ca.node(t, "b")
	broken.Certificate = func() (*tls.Certificate, error) { return nil, errors.New("open node.pem: permission denied") }
	a, _, logB := secured(t, ca.node(t, "a"), broken)
	if _, err := tell(t, a); err == nil {
		t.Error("a node without a certificate answered")
	}
	wantLogged(t, logB, "this node's certificate: open node.pem: permission denied")
}

// A caller has to say who it is, in a form that can be written into a log.
func TestCaller(t *testing.T) {
	m := newMesh(t, "b", Config{})
	for name, ok := range map[string]bool{
		"a": true, "node-1.fra": true, "": false, "b": false, "a b": false, "a\nb": false, "\xff": false, strings.Repeat("x", 254): false,
	} {
		got, err := m.caller(metadata.NewIncomingContext(t.Context(), metadata.Pairs(nodeHeader, name)))
		if (err == nil) != ok || (ok && got != name) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for _, ctx := range []context.Context{
		t.Context(), metadata.NewIncomingContext(t.Context(), metadata.Pairs(nodeHeader, "a", nodeHeader, "c")),
	} {
		if got, err := m.caller(ctx); err == nil {
			t.Errorf("taken for %q", got)
		}
	}
	secure := newMesh(t, "b", Config{TLS: newAuthority(t, "ours").node(t, "b")})
	if got, err := secure.caller(metadata.NewIncomingContext(t.Context(), metadata.Pairs(nodeHeader, "a"))); err == nil {
		t.Errorf("taken for %q without a certificate", got)
	}
}

// The same trouble is logged once a minute, and strangers cannot fill memory.
func TestRateLimitedLog(t *testing.T) {
	r := newRateLimitedLog()
	log := new(logged)
	now := time.Now()
	for i := range 1000 {
		if r.due("x", now.Add(time.Duration(i)*time.Second)) != (i%60 == 0) {
			t.Errorf("after %d s", i)
		}
	}
	for i := range 10 * maxRemembered {
		r.warn(log.logger(), strings.Repeat("y", i), "again")
	}
	if r.last.Len() > maxRemembered || bytes.Count([]byte(log.String()), []byte("again")) != 10*maxRemembered {
		t.Errorf("%d remembered", r.last.Len())
	}
}
