package peers

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

const (
	// A connection that is silent for pingAfter is pinged, and closed when no
	// answer comes within pingWait. The server must expect that often, or it
	// closes the connection for being pinged too much.
	pingAfter    = 20 * time.Second
	pingWait     = 10 * time.Second
	pingTolerate = 10 * time.Second
	// Between attempts to connect to a node that cannot be reached. It must be
	// short enough to find a node that has returned: ResetConnectBackoff must not
	// be used, for gRPC v1.85.0 reads the list of connections in it without its
	// lock.
	redialFirst = 200 * time.Millisecond
	redialMax   = time.Second
	// dialTimeout bounds one attempt, TLS included.
	dialTimeout = 5 * time.Second
	// maxStreams is how many calls one connection may have open.
	maxStreams = 512
	// nodeHeader names the node that calls.
	nodeHeader = "aptmesh-node"
	maxName    = 253
)

// windows is how many bytes a receiver lets a sender send ahead, on one stream and
// on all of a connection together; the zero windows leaves that to gRPC.
//
// A window is the most that one round trip can carry. It is also the most memory that a
// reader takes that stops reading. With a round trip of 100 ms, the chosen windows carry
// 72 MB/s in one transfer and 276 MB/s in eight; windows of half the size carry 38 and 149.
// With gRPC's own windows, a transfer begins with 25 MB/s and reaches 110 to 130; eight
// together reached 27 or 147. Without a round trip, windows make no difference. Measured with
//
//	go test -run '^$' -bench Fetch/rtt -benchtime 2s ./peerfetch/peers
type windows struct{ stream, conn int32 }

var dataWindows = windows{8 << 20, 32 << 20}

// newServer makes the server for everything other nodes ask.
func (m *Mesh) newServer() *grpc.Server {
	creds := insecure.NewCredentials()
	if m.cfg.TLS != nil {
		creds = m.serverTLS()
	}
	return grpc.NewServer(
		grpc.Creds(creds),
		grpc.ConnectionTimeout(dialTimeout),
		grpc.WaitForHandlers(true), // Stop, too, leaves nothing behind
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingTolerate, PermitWithoutStream: true}),
	)
}

// dial makes a connection to a node; it connects when it is first used. The one
// for data has a heart, which beats whenever something arrives.
func (m *Mesh) dial(name, addr string, heart *pulse) (*grpc.ClientConn, error) {
	var creds credentials.TransportCredentials = insecure.NewCredentials()
	if m.cfg.TLS != nil {
		creds = m.clientTLS(name)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := m.cfg.Dial(ctx, addr)
			if err == nil && heart != nil {
				conn = &beatingConn{conn, heart}
			}
			return conn, err
		}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redialFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMax},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingWait, PermitWithoutStream: true}),
		grpc.WithChainUnaryInterceptor(m.introduceUnary),
		grpc.WithChainStreamInterceptor(m.introduceStream),
	}
	if w := m.cfg.windows; heart != nil && w.stream > 0 {
		opts = append(opts, grpc.WithStaticStreamWindowSize(w.stream), grpc.WithStaticConnWindowSize(w.conn))
	}
	// gRPC would read the address as a URL; only the dialler needs to know it.
	return grpc.NewClient("passthrough:///node", opts...)
}

// introduceUnary and introduceStream add this node's name to each call.
func (m *Mesh) introduceUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(metadata.AppendToOutgoingContext(ctx, nodeHeader, m.cfg.Name), method, req, reply, cc, opts...)
}

func (m *Mesh) introduceStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return stream(metadata.AppendToOutgoingContext(ctx, nodeHeader, m.cfg.Name), desc, cc, method, opts...)
}

// pulse is when something last arrived on a connection.
type pulse struct {
	began time.Time
	last  atomic.Int64 // nanoseconds after began
}

func (p *pulse) beat()             { p.last.Store(int64(time.Since(p.began))) }
func (p *pulse) lastAt() time.Time { return p.began.Add(time.Duration(p.last.Load())) }

// beatingConn has a pulse beat with what it reads.
type beatingConn struct {
	net.Conn
	heart *pulse
}

func (c *beatingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heart.beat()
	}
	return n, err
}
