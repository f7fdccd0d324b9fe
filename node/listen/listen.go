package listen

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Certificate is what TLS listeners show; it can be replaced while they are open. The zero Certificate
// is none.
type Certificate struct {
	now atomic.Pointer[tls.Certificate]
}

// Load reads the PEM files of a certificate and its key, and shows them from now on.
func (c *Certificate) Load(cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	c.now.Store(&pair)
	return nil
}

// All binds the plain addresses, then those of TLS. After an error nothing is left open; Explain says
// more about it.
func All(ctx context.Context, plain, secure []string, cert *Certificate) (all Listeners, err error) {
	defer func() {
		if err != nil {
			all.Close()
			all = nil
		}
	}()
	listen := func(addr string) (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	}
	for _, addr := range plain {
		l, err := listen(addr)
		if err != nil {
			return all, err
		}
		all = append(all, l)
	}
	for _, addr := range secure {
		l, err := listen(addr)
		if err != nil {
			return all, fmt.Errorf("tls: %w", err)
		}
		all = append(all, tls.NewListener(l, &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.now.Load(), nil },
		}))
	}
	return all, nil
}

// Listeners are open.
type Listeners []net.Listener

// Close closes all of them.
func (ls Listeners) Close() {
	for _, l := range ls {
		l.Close()
	}
}

// Addresses are what a process listens at, in the order in which it began to. Safe for concurrent use.
type Addresses struct {
	mu  sync.Mutex
	all []string
}

// Add notes addresses, as host:port.
func (a *Addresses) Add(addrs ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, addrs...)
}

// All are the addresses as they were added.
func (a *Addresses) All() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// Parsed are those with an IP address, or with none, which is every address of the machine.
func (a *Addresses) Parsed() []netip.AddrPort {
	var all []netip.AddrPort
	for _, text := range a.All() {
		if strings.HasPrefix(text, ":") {
			text = "[::]" + text
		}
		if at, err := netip.ParseAddrPort(text); err == nil {
			all = append(all, at)
		}
	}
	return all
}
