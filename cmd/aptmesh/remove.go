package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) clusterRemoveCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Remove a node that is missing for good",
		Long: `Have all nodes of a cluster forget a node that died and will not come back. A node that
vanished without leaving is looked for, and status and metrics report it as missing,
until it comes back or is removed. One node is asked; it tells the others.

A node that runs is taken out with "aptmesh leave" on its own machine. The certificate of a
removed node stays valid: if its machine fell into other hands, make a new cluster.`,
		Example: `  aptmesh cluster remove nyc1`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			r, err := client.Remove(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ask.json {
				return a.printJSON(r)
			}
			_, err = fmt.Fprintf(a.out, "%s: %s\n", r.Node, r.Message)
			return err
		},
	}
	ask.register(cmd)
	return cmd
}
