package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) dropCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use:   "drop ARCHIVE/SUITE...",
		Short: "Forget a suite, so that it is read from upstream again",
		Long: `Make the node forget a suite as if it had never known it: its generations, the names in
its Release, and how new it was. The next check or request reads the suite from upstream
again. Use it if the node adopted a wrong Release that no newer one replaces.

Stored files stay as long as an index lists them. In a cluster, a node that has forgotten a
suite gets it again from the other nodes, so run the command on every node.`,
		Example:           `  aptmesh drop ubuntu/noble-proposed`,
		Args:              takes(1, -1, "the suite (ARCHIVE/SUITE)"),
		ValidArgsFunction: a.completions(&ask, suiteNames),
		RunE: func(cmd *cobra.Command, suites []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			return a.eachSuite(suites, ask.json, func(suite string) (result any, line string, err error) {
				r, err := client.Drop(ctx, suite)
				if err != nil {
					return nil, "", err
				}
				return r, r.Suite + ": " + r.Message, nil
			})
		},
	}
	ask.register(cmd)
	return cmd
}
