package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
)

// clientFlags are the flags of every command that asks a running node.
type clientFlags struct {
	addr, tokenFile string
	json            bool
}

func (f *clientFlags) register(cmd *cobra.Command) {
	f.registerAddress(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

func (f *clientFlags) registerAddress(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.addr, "admin", "", "`ADDRESS` of the node's admin interface: host:port, http://host:port, or the path of a socket (default from the configuration)")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "`FILE` with the token of the admin interface (default from the configuration)")
	_ = cmd.MarkFlagFilename("token-file")
}

// client returns a client of the node that the flags and the configuration mean. A
// configuration that this user may not read is no obstacle unless --config names
// it: most nodes use the default address.
func (a *app) client(f clientFlags) (*admin.Client, error) {
	cfg := config.Default()
	path, err := a.configPath()
	if err == nil && path != "" {
		var read *config.Config
		if read, err = config.Peek(path); err == nil {
			cfg = read
		}
	}
	if err != nil && a.configFile != "" {
		return nil, err
	}
	addr, tokenFile := f.addr, f.tokenFile
	if addr == "" {
		if addr = cfg.Admin.Address; addr == "" {
			return nil, fmt.Errorf("%s switches the admin interface off (admin: \"\"), so there is nobody to ask", path)
		}
	}
	token := ""
	switch {
	case tokenFile != "":
		if token, err = admin.ReadToken(tokenFile); err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
	case f.addr == "" && cfg.Admin.TokenFile != "":
		// A user without access to the file can still ask a node on this machine.
		token, _ = admin.ReadToken(cfg.Admin.TokenFile)
	}
	return admin.NewClient(addr, token)
}
