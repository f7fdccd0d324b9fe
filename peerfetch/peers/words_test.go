package peers

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

func TestPlainWords(t *testing.T) {
	for said, want := range map[string]string{
		`latest balancer error: connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.13:3143: connect: connection refused"`:                                                                                                                                                            "nothing listens there (127.0.0.13:3143)",
		`rpc error: code = Unavailable desc = connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`:                                                                                                       "the certificates do not fit: its certificate is of another authority than this node's cluster.ca",
		`connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of \"x509: ECDSA verification failure\" while trying to verify candidate authority certificate \"aptmesh cluster prod\")"`: "the certificates do not fit: its certificate is of another authority than this node's cluster.ca",
		`connection error: desc = "transport: authentication handshake failed: tls: a \"quoted\" word"`:                                                                                                                                                                                                      `the certificates do not fit: a "quoted" word`,
		`connection error: desc = "transport: authentication handshake failed: remote error: tls: bad certificate"`:                                                                                                                                                                                          "the certificates do not fit: it does not accept that of this node (bad certificate)",
		`connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-01-01T00:00:00Z"`:                                                                                                     "the certificates do not fit: its certificate has expired, or is not valid yet by this node's clock",
		`connection error: desc = "transport: authentication handshake failed: read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer"`:                                                                                                                                                           "it ends the connection at once: it stops or starts, or speaks no TLS",
		`connection error: desc = "transport: authentication handshake failed: EOF"`:                                                                                                                                                                                                                         "it ends the connection at once: it stops or starts, or speaks no TLS",
		`dial tcp [fd00::1]:3143: i/o timeout`:         "no answer in time ([fd00::1]:3143)",
		`context deadline exceeded`:                    "no answer in time",
		`name resolver error: produced zero addresses`: "its name cannot be looked up",
		`error reading from server: EOF`:               "the connection broke",
		`two nodes call themselves b`:                  "two nodes call themselves b",
	} {
		if got := plain(said); got != want {
			t.Errorf("%s\n got %s\nwant %s", said, got, want)
		}
	}
}

// What an operator reads of a node that cannot be reached, for real.
func TestUnreachableInPlainWords(t *testing.T) {
	hangUp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp.Close()
	go func() {
		for {
			c, err := hangUp.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	m, err := New(Config{Name: "a", Listen: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Health: HealthConfig{Every: 20 * time.Millisecond, Wait: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	v, err := ring.NewView([]ring.Node{{Name: "a", Self: true}, {Name: "b", PeerAddr: "127.0.0.1:1"}, {Name: "c", PeerAddr: hangUp.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	m.SetView(v)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		said := make(map[string]string)
		for _, p := range m.Peers() {
			said[p.Name] = p.LastError
		}
		for name, text := range said {
			if strings.Contains(text, "rpc error") || strings.Contains(text, "desc =") || strings.Contains(text, "transport") || strings.HasPrefix(text, "node ") {
				t.Fatalf("%s: %s", name, text)
			}
		}
		if strings.Contains(said["b"], "nothing listens there (127.0.0.1:1)") && said["c"] != "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q", said)
		}
	}
}

// What a node answers is its own words, and the name of a cause is not lost.
func TestAnswersPassUnchanged(t *testing.T) {
	err := errorOf("b", status.Error(codes.InvalidArgument, "EOF is no location"))
	if err.Error() != "node b: EOF is no location" {
		t.Error(err)
	}
	var failed *proto.PeerFailed
	if err := errorOf("b", context.DeadlineExceeded); !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time") {
		t.Error(err)
	}
}
