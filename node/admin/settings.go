package admin

import (
	_ "embed"
	"fmt"
	"net"

	"github.com/aptmesh/aptmesh/node/listen"
)

//go:embed settings.go
var SettingsSource string // node/config prints the comments of the keys

// Settings are the keys of the configuration that say where a Server listens. They stand at the top of
// the file.
type Settings struct {
	// Address of the admin interface: status, metrics, profiles, and what `aptmesh status` asks.
	//
	// "host:port" or "unix:/run/aptmesh/admin.sock"; "" switches it off. Over TCP every user of the
	// machine can read; changes are taken at a socket in `state`, for root and the service's user.
	Address string `yaml:"admin" default:"127.0.0.1:3144" path:"socket" check:"listen" reload:"no"`
	// File with a token that allows changes over TCP, and an `admin` address off loopback.
	//
	// `openssl rand -hex 32` prints one. At an address that other machines reach, reads need it as
	// well. It is read for each request that shows a token.
	TokenFile string `yaml:"admin_token_file" path:"token" reload:"no"`
	// An address for load balancers, which serves /ready and /health and nothing else.
	ReadyAddress string `yaml:"ready_listen" check:"listen" reload:"no"`
}

// CheckAddress says in a sentence why the interface must not listen at its address; nil where it may.
func (s Settings) CheckAddress() error {
	path, isSocket := socketPath(s.Address)
	_, _, notTCP := net.SplitHostPort(s.Address)
	switch {
	case isSocket && (path == "." || path == "/"):
		return fmt.Errorf(`%q names no socket: write "unix:/run/aptmesh/admin.sock"`, s.Address)
	case isSocket, notTCP != nil, listen.IsLoopback(s.Address), s.TokenFile != "":
		return nil
	}
	return fmt.Errorf("%q can be reached from other machines, and every one of them could read and end this node: "+
		"use a loopback address, or set admin_token_file (load balancers only need ready_listen)", s.Address)
}

// CheckToken says why the file of the token, if there is one, is of no use.
func (s Settings) CheckToken() error {
	if s.TokenFile == "" {
		return nil
	}
	_, err := ReadToken(s.TokenFile)
	return err
}
