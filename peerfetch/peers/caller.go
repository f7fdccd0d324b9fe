package peers

import (
	"context"
	"net"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// caller returns the name of the node that makes the call of ctx, or the status
// to refuse it with. With TLS the name is one that its certificate has: any
// certificate of the cluster will do, because a node that has just joined may not be
// in this one's view yet.
func (m *Mesh) caller(ctx context.Context) (string, error) {
	from, ok := grpcpeer.FromContext(ctx)
	if !ok {
		from = &grpcpeer.Peer{Addr: &net.TCPAddr{}}
	}
	name, err := m.identify(ctx, from)
	if err != nil {
		host := hostOf(from.Addr)
		m.limitedLog.warn(m.log, "call "+host, "refused a call of another node", "from", host, "error", status.Convert(err).Message())
	}
	return name, err
}

// identify does what caller says; from is the other end of the connection.
func (m *Mesh) identify(ctx context.Context, from *grpcpeer.Peer) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	name := ""
	if values := md.Get(nodeHeader); len(values) == 1 {
		name = values[0]
	}
	if !validNodeName(name) {
		return "", status.Error(codes.InvalidArgument, "the call does not say which node makes it")
	}
	if name == m.cfg.Name {
		return "", status.Errorf(codes.PermissionDenied, "two nodes call themselves %s", name)
	}
	if m.cfg.TLS == nil {
		return name, nil
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return "", status.Error(codes.Unauthenticated, "the call shows no certificate")
	}
	if names := info.State.PeerCertificates[0].DNSNames; !slices.Contains(names, name) {
		return "", status.Errorf(codes.PermissionDenied, "the certificate is for %s, not for node %s", orNobody(names), name)
	}
	return name, nil
}

// hostOf is an address without its port, which differs with each connection.
func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

// validNodeName bounds what other nodes may write into logs and tables.
func validNodeName(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
}
