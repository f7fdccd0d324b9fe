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
		Short: "Forget what this node believes of a suite",
		Long: `Have the node forget a suite as if it had never known it: its generations, what its
Release called itself, and how new it was. The next check or request reads it from
upstream again. This is the way out when a Release was adopted that should not have
been, and does not go away by itself.

What is stored stays, as far as it is still listed. In a cluster a node that has
forgotten a suite takes it from the others again, so run it on every node.`,
		Example: `  aptmesh drop ubuntu/noble-proposed`,
		Args:    takes(1, -1, "the suite (ARCHIVE/SUITE)"),
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
