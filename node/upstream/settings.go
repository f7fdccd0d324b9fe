package upstream

import (
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"
)

//go:embed settings.go
var SettingsSource string // node/config prints the comments of the keys

// Settings is the section `upstream_client` of the configuration: how all archives are asked.
type Settings struct {
	// Cap on connections to one upstream host, for the whole cluster.
	ConnectionsPerHost int `yaml:"connections_per_host" default:"8" check:"1-1000"`
	// Cap on bytes per second from all upstreams, for the whole cluster; 0 is none.
	Rate int64 `yaml:"rate" default:"0"`
	// Bytes per second below which a better mirror continues a transfer; 0 is off.
	RateFloor int64 `yaml:"rate_floor" default:"32KiB"`
	// Private networks to which redirects and mirror lists may lead.
	//
	// By default they may lead to public addresses and to configured upstreams, and to no other
	// address that is loopback, link-local or private. Write 10.20.0.0/16 or 10.20.1.7.
	InternalAllow []netip.Prefix `yaml:"internal_allow,flow"`
	// A parent proxy, such as http://proxy.example.org:3128.
	//
	// "" follows http_proxy, https_proxy and no_proxy of the environment, "direct" uses none.
	Proxy Proxy `yaml:"proxy"`
	// How long a body may stop flowing before another source continues.
	StallTimeout time.Duration `yaml:"stall_timeout" default:"5s" check:"positive"`
	// How long the node waits for an answer to begin.
	HeaderTimeout time.Duration `yaml:"header_timeout" default:"8s" check:"positive"`
	// How long the node waits for a connection.
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"5s" check:"positive"`
	// Files of credentials by host, in the format of apt_auth.conf(5).
	//
	// A directory stands for its *.conf files. What does not exist counts as empty.
	AuthConf []string `yaml:"auth_conf,flow" default:"[/etc/apt/auth.conf, /etc/apt/auth.conf.d]" path:"auth"`
}

// TLSFiles holds PEM files. Cert and Key go together.
type TLSFiles struct {
	// PEM file of the CAs to trust instead of the machine's.
	CA string `yaml:"ca,omitempty" path:"file"`
	// PEM file of the certificate this node shows.
	Cert string `yaml:"cert,omitempty" path:"file"`
	// PEM file of its private key.
	Key string `yaml:"key,omitempty" path:"file"`
}

// IsZero reports whether there is nothing special about the connection.
func (t TLSFiles) IsZero() bool { return t == TLSFiles{} }

// Load reads the files; nil is for those that are not given.
func (t TLSFiles) Load() (roots *x509.CertPool, cert *tls.Certificate, err error) {
	if t.CA != "" {
		if roots, err = ReadRoots(t.CA); err != nil {
			return nil, nil, fmt.Errorf("tls: ca: %w", err)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("tls: %w", err)
		}
		cert = &pair
	}
	return roots, cert, nil
}

// maxRoots bounds a file of authorities in bytes.
const maxRoots = 16 << 20

// ReadRoots reads a PEM file of the certificates of authorities.
func ReadRoots(file string) (*x509.CertPool, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxRoots))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in the form of PEM", file)
	}
	return pool, nil
}
