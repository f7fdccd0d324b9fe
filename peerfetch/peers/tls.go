package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
)

// TLS proves this node's identity to other nodes and checks theirs. Both functions are
// called for each handshake, so that files may change while the node runs. Existing
// connections are not checked again.
type TLS struct {
	// Certificate is this node's, good for client and server; one of its DNS
	// names is the node's name.
	Certificate func() (*tls.Certificate, error)
	// Roots are the authorities that sign the cluster's certificates, and nobody
	// else's: every holder of one of their certificates is let in.
	Roots func() (*x509.CertPool, error)
}

// serverTLS demands a certificate of the cluster from each caller.
func (m *Mesh) serverTLS() credentials.TransportCredentials {
	return &handshakes{m: m, TransportCredentials: credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		// The configuration is made anew for each caller, and so is not cached: a
		// session that goes on would not be checked against today's roots.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			certificate, roots, err := m.cfg.TLS.load()
			if err != nil {
				return nil, err
			}
			return &tls.Config{
				MinVersion:             tls.VersionTLS13,
				Certificates:           []tls.Certificate{*certificate},
				ClientAuth:             tls.RequireAndVerifyClientCert,
				ClientCAs:              roots,
				SessionTicketsDisabled: true,
			}, nil
		},
	})}
}

// clientTLS demands that the node that answers has that name.
func (m *Mesh) clientTLS(name string) credentials.TransportCredentials {
	return &handshakes{m: m, node: name, TransportCredentials: credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: name,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return m.cfg.TLS.Certificate()
		},
		// The roots may change, which tls.Config.RootCAs cannot follow:
		// VerifyConnection does what is skipped here, and more strictly.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			roots, err := m.cfg.TLS.Roots()
			if err != nil {
				return err
			}
			return verifyNode(state.PeerCertificates, roots, name)
		},
	})}
}

// load returns what is needed to answer a handshake.
func (t *TLS) load() (*tls.Certificate, *x509.CertPool, error) {
	certificate, err := t.Certificate()
	if err != nil {
		return nil, nil, fmt.Errorf("this node's certificate: %w", err)
	}
	roots, err := t.Roots()
	if err != nil {
		return nil, nil, fmt.Errorf("the cluster's authorities: %w", err)
	}
	return certificate, roots, nil
}

// verifyNode checks that a chain of certificates belongs to the server of a node.
// Names are compared exactly: a wildcard names no node.
func verifyNode(chain []*x509.Certificate, roots *x509.CertPool, name string) error {
	if len(chain) == 0 {
		return errors.New("it showed no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return err
	}
	if !slices.Contains(chain[0].DNSNames, name) {
		return &wrongNode{want: name, got: chain[0].DNSNames}
	}
	return nil
}

// wrongNode means that another node answered than the one that was called.
type wrongNode struct {
	want string
	got  []string
}

func (w *wrongNode) Error() string {
	return fmt.Sprintf("its certificate is for %s, not for node %s", orNobody(w.got), w.want)
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody (it has no DNS name)"
	}
	return strings.Join(names, ", ")
}

// handshakes logs failed handshakes with what an operator can do. gRPC's server does not
// report them.
type handshakes struct {
	credentials.TransportCredentials
	m    *Mesh
	node string // the node that is called; "" on the server side
}

func (h *handshakes) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := h.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		host := hostOf(conn.RemoteAddr())
		h.m.limitedLog.warn(h.m.log, "in "+host, "refused a connection of another node", "from", host, "error", explain(err))
	}
	return secured, info, err
}

func (h *handshakes) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil && ctx.Err() == nil {
		err = explain(err)
		h.m.limitedLog.warn(h.m.log, "out "+h.node, "no connection to another node", "node", h.node, "address", conn.RemoteAddr().String(), "error", err)
	}
	return secured, info, err
}

func (h *handshakes) Clone() credentials.TransportCredentials {
	return &handshakes{TransportCredentials: h.TransportCredentials.Clone(), m: h.m, node: h.node}
}

// explain puts in front of a failed handshake what it means here.
func explain(err error) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var wrong *wrongNode
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("its certificate has expired, is not valid yet, or one of the clocks is wrong: %w", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("its certificate was not signed by an authority of this cluster: %w", err)
	case errors.As(err, &wrong):
		return fmt.Errorf("another node answers at this address: %w", err)
	}
	return err
}
