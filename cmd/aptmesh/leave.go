package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

// leavePoll is how often a node that leaves is asked how far it is.
const leavePoll = 250 * time.Millisecond

func (a *app) leaveCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Take the node out of its cluster and stop it",
		Long: `Make the node drain, leave its cluster and end, and wait for the end. The node reports "not
ready", so that load balancers send hosts to other nodes. It hands off the objects of which
it has the last copy, announces that it leaves, and lets running requests finish. "drain" in
the configuration bounds each step. If this command is interrupted, the node continues to
leave.

SIGTERM does the same, but then a service manager may start the node again. After "leave"
the node ends with exit code ` + strconv.Itoa(exitLeft) + `, and the systemd unit does not start it again. The next
boot of the machine does, unless the service is disabled: systemctl disable aptmesh.`,
		Example: `  aptmesh leave
  aptmesh leave --admin /var/lib/aptmesh/admin/socket`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			return a.leave(cmd.Context(), client)
		},
	}
	ask.registerAddress(cmd)
	return cmd
}

// leave makes the node leave, and follows it to its end.
func (a *app) leave(ctx context.Context, client *admin.Client) error {
	result, err := client.Leave(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: %s\n", result.Node, result.Message)
	within := time.Duration(result.WithinSeconds)*time.Second + stopGrace
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%s is still there after %v; its log tells why", result.Node, within))
	defer cancel()
	tick := time.NewTicker(leavePoll)
	defer tick.Stop()
	said, up := "", int64(0)
	for {
		s, err := client.Status(ctx)
		switch {
		case errors.Is(err, admin.ErrNotRunning):
			fmt.Fprintf(a.out, "%s: has left and ended; the next boot of its machine starts it again, unless the service is disabled\n", result.Node)
			return nil
		case err != nil: // it may be about to end, and cut the connection
		case s.UptimeSeconds < up:
			fmt.Fprintf(a.out, "%s: has left, and was started again\n", result.Node)
			return nil
		default:
			up = s.UptimeSeconds
			if s.Stopping != "" && s.Stopping != said {
				said = s.Stopping
				fmt.Fprintf(a.out, "%s: %s\n", result.Node, said)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return fmt.Errorf("no longer waiting; %s goes on leaving", result.Node)
		}
	}
}
