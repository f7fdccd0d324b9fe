package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

func (a *app) channelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "channel",
		Short: "Move hosts from one snapshot to another",
		Long: `A channel is a name that hosts use in place of a snapshot's:

  http://NODE:3142/snapshot/ARCHIVE/stable/

You move it from one snapshot to the next, and back, without changing anything on the hosts.
Its target is a snapshot, another channel, or "live": the archive as it is now.`,
	}
	cmd.AddCommand(a.channelSetCommand(), a.channelRollbackCommand(), a.channelListCommand(), a.channelHistoryCommand(), a.channelRemoveCommand())
	return cmd
}

func (a *app) channelSetCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "set CHANNEL TARGET", Short: "Move a channel, or make one", Args: takes(2, 2, "the channel, or its target"),
		Example: `  aptmesh channel set canary 2026-w48
  aptmesh channel set edge live`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			m, err := client.SetChannel(cmd.Context(), args[0], args[1], operatorName(), false)
			return a.printMove(args[0], m, err, ask.json)
		},
	}
	ask.register(cmd)
	return cmd
}

func (a *app) channelRollbackCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "rollback CHANNEL", Short: "Move a channel back to where it was", Args: takes(1, 1, "the channel"),
		Example: "  aptmesh channel rollback stable",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			m, err := client.SetChannel(cmd.Context(), args[0], "", operatorName(), true)
			return a.printMove(args[0], m, err, ask.json)
		},
	}
	ask.register(cmd)
	return cmd
}

// promoteCommand gives one channel the target of another.
func (a *app) promoteCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "promote FROM TO", Short: "Give a channel the snapshot of another one", Args: takes(2, 2, "the channel to take from, or the one to move"),
		Long:    "Move the channel TO to the snapshot that the channel FROM stands for now.",
		Example: "  aptmesh promote canary stable",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			channels, err := client.Channels(cmd.Context())
			if err != nil {
				return err
			}
			for _, c := range channels {
				if c.Name == args[0] {
					m, err := client.SetChannel(cmd.Context(), args[1], c.Target, operatorName(), false)
					return a.printMove(args[1], m, err, ask.json)
				}
			}
			return fmt.Errorf("there is no channel %q here (aptmesh channel list)", args[0])
		},
	}
	ask.register(cmd)
	return cmd
}

func (a *app) printMove(name string, m *admin.ChannelMove, err error, asJSON bool) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return a.printJSON(m)
	case m.From == "":
		_, err = fmt.Fprintf(a.out, "%s: made; it stands for %s\n%s", name, m.To, unreachedLine(m.Unreached))
	default:
		_, err = fmt.Fprintf(a.out, "%s: moved from %s to %s\n%s", name, m.From, m.To, unreachedLine(m.Unreached))
	}
	return err
}

func (a *app) channelListCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the channels", Args: takes(0, 0, ""),
		Example: "  aptmesh channel list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			list, err := client.Channels(cmd.Context())
			if err != nil {
				return err
			}
			if ask.json {
				return a.printJSON(list)
			}
			return printChannels(a.out, list, time.Now())
		},
	}
	ask.register(cmd)
	return cmd
}

func printChannels(w io.Writer, list []admin.Channel, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "there is no channel; `aptmesh channel set NAME SNAPSHOT` makes one")
		return err
	}
	rows := make([][]string, len(list))
	for i, c := range list {
		rows[i] = []string{c.Name, c.Target, ago(c.At, now), c.By + "@" + c.Node}
	}
	var b strings.Builder
	table(&b, []string{"CHANNEL", "TARGET", "MOVED", "BY"}, rows)
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) channelHistoryCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "history CHANNEL", Short: "Show the latest moves of a channel", Args: takes(1, 1, "the channel"),
		Example: "  aptmesh channel history stable",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			channels, err := client.Channels(cmd.Context())
			if err != nil {
				return err
			}
			for _, c := range channels {
				switch {
				case c.Name != args[0]:
					continue
				case ask.json:
					return a.printJSON(c.Moves)
				}
				rows := make([][]string, len(c.Moves))
				for i, m := range c.Moves {
					rows[i] = []string{m.At.Format(time.RFC3339), m.From, m.To, m.By + "@" + m.Node}
				}
				var b strings.Builder
				table(&b, []string{"AT", "FROM", "TO", "BY"}, rows)
				_, err := io.WriteString(a.out, b.String())
				return err
			}
			return fmt.Errorf("there is no channel %q here (aptmesh channel list)", args[0])
		},
	}
	ask.register(cmd)
	return cmd
}

func (a *app) channelRemoveCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "rm CHANNEL", Short: "Remove a channel", Args: takes(1, 1, "the channel"),
		Long:    "Remove a channel. Hosts that use it get 404 from then on. The snapshot that it stands for stays.",
		Example: "  aptmesh channel rm edge",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			done, err := client.RemoveChannel(cmd.Context(), args[0], operatorName())
			return a.printDone(args[0], done, err, ask.json)
		},
	}
	ask.register(cmd)
	return cmd
}
