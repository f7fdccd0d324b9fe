package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) clusterRemoveCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Forget a node that will not come back",
		Long: `Make all nodes of a cluster forget a node that died and will not come back. A node that
vanished without leaving is reported as missing, in status and metrics, until it comes back
or is removed. Run the command at one node; it informs the others.

To take out a running node, use "aptmesh leave" on its own machine. The certificate of a
removed node stays valid: if somebody else has its machine now, make a new cluster.`,
		Example:           `  aptmesh cluster remove nyc1`,
		Args:              takes(1, 1, "the name of the node"),
		ValidArgsFunction: a.completions(&ask, missingNames),
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
