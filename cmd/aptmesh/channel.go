package main

import (
	"context"
	"fmt"
	"io"
	"slices"
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
	cmd.AddCommand(a.channelSetCommand(), a.channelRollbackCommand(), a.channelListCommand(), a.channelHistoryCommand(), a.channelHoldCommand(true), a.channelHoldCommand(false), a.channelRemoveCommand())
	return cmd
}

func (a *app) channelSetCommand() *cobra.Command {
	var live []string
	var now bool
	cmd := a.asking(&cobra.Command{
		Use: "set CHANNEL TARGET", Short: "Move a channel, or make one", Args: takes(2, 2, "the channel, or its target"),
		Long: `Move a channel to a snapshot, to another channel, or to "live", or make a channel.

Suites that fit a pattern of --live are served as they are now, whatever the target: hosts of a
frozen release get security updates. A channel keeps its patterns until --live replaces them;
--live "" removes them.`,
		Example: `  aptmesh channel set canary 2026-w48
  aptmesh channel set stable 2026-w48 --live '*-security'
  aptmesh channel set edge live`,
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		order := orderOf(now)
		if live != nil {
			order.Live = slices.DeleteFunc(live, func(p string) bool { return p == "" })
		}
		m, err := client.SetChannel(ctx, args[0], args[1], order)
		return m, moveOf(args[0], m), err
	})
	cmd.Flags().StringSliceVar(&live, "live", nil, "`PATTERN` of suites that hosts get as they are now (repeatable); \"\" for none")
	nowFlag(cmd, &now)
	return cmd
}

// nowFlag adds the flag of commands that move a channel.
func nowFlag(cmd *cobra.Command, now *bool) {
	cmd.Flags().BoolVar(now, "now", false, "do not wait for the other nodes: they are told behind the command")
}

func orderOf(now bool) admin.ChannelOrder { return admin.ChannelOrder{By: operatorName(), Now: now} }

func (a *app) channelRollbackCommand() *cobra.Command {
	var now bool
	cmd := a.asking(&cobra.Command{
		Use: "rollback CHANNEL", Short: "Move a channel back to where it was", Args: takes(1, 1, "the channel"),
		Long:    "Move a channel back to where it was before it came to its present target, with the suites that were live then. Run it again to go back further.",
		Example: "  aptmesh channel rollback stable",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		m, err := client.Rollback(ctx, args[0], orderOf(now))
		return m, func(w io.Writer) error {
			if err := moveOf(args[0], m)(w); err != nil {
				return err
			}
			_, err := fmt.Fprintln(w, "note: hosts with apt that have updated since keep what they have, without a word, until /var/lib/apt/lists is emptied on them")
			return err
		}, err
	})
	nowFlag(cmd, &now)
	return cmd
}

func (a *app) promoteCommand() *cobra.Command {
	var now bool
	cmd := a.asking(&cobra.Command{
		Use: "promote FROM TO", Short: "Give a channel the snapshot of another one", Args: takes(2, 2, "the channel to take from, or the one to move"),
		Long: `Move the channel TO to the snapshot that the channel FROM stands for at this moment. It stays there when FROM is
moved later. The suites that TO serves as they are now (channel set --live) stay what they are.`,
		Example: "  aptmesh promote canary stable",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		m, err := client.Promote(ctx, args[0], args[1], orderOf(now))
		return m, moveOf(args[1], m), err
	})
	nowFlag(cmd, &now)
	return cmd
}

// moveOf prints a move of a channel.
func moveOf(name string, m *admin.ChannelMove) func(io.Writer) error {
	return func(w io.Writer) error {
		from, to := place(m.From, m.FromLive), place(m.To, m.ToLive)
		what := "moved from " + from + " to " + to
		switch {
		case m.From == "":
			what = "made; it stands for " + to
		case from == to:
			what = "it stands for " + to + " already"
		}
		_, err := fmt.Fprintf(w, "%s: %s\n%s", name, what, unreachedLine(m.Unreached))
		return err
	}
}

// place is where a channel is, for people: "2026-w48 (live: *-security)".
func place(target string, live []string) string {
	if len(live) == 0 {
		return target
	}
	return target + " (live: " + strings.Join(live, " ") + ")"
}

func (a *app) channelListCommand() *cobra.Command {
	return a.asking(&cobra.Command{
		Use: "list", Short: "List the channels", Args: takes(0, 0, ""),
		Example: "  aptmesh channel list",
	}, func(ctx context.Context, client *admin.Client, _ []string) (any, func(io.Writer) error, error) {
		list, err := client.Channels(ctx)
		return list, func(w io.Writer) error { return printChannels(w, list, time.Now()) }, err
	})
}

func printChannels(w io.Writer, list []admin.Channel, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "there is no channel; `aptmesh channel set NAME SNAPSHOT` makes one")
		return err
	}
	rows := make([][]string, len(list))
	for i, c := range list {
		target := place(c.Target, c.Live)
		if c.Held {
			target += " (held)"
		}
		rows[i] = []string{c.Name, target, ago(c.At, now), c.By + "@" + c.Node}
	}
	return writeTable(w, []string{"CHANNEL", "TARGET", "MOVED", "BY"}, rows)
}

func (a *app) channelHistoryCommand() *cobra.Command {
	return a.asking(&cobra.Command{
		Use: "history CHANNEL", Short: "Show the latest moves of a channel", Args: takes(1, 1, "the channel"),
		Example: "  aptmesh channel history stable",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		channels, err := client.Channels(ctx)
		if err != nil {
			return nil, nil, err
		}
		i := slices.IndexFunc(channels, func(c admin.Channel) bool { return c.Name == args[0] })
		if i < 0 {
			return nil, nil, fmt.Errorf("there is no channel %q here (aptmesh channel list)", args[0])
		}
		moves := channels[i].Moves
		return moves, func(w io.Writer) error {
			rows := make([][]string, len(moves))
			for i, m := range moves {
				rows[i] = []string{m.At.Format(time.RFC3339), place(m.From, m.FromLive), place(m.To, m.ToLive), m.By + "@" + m.Node}
			}
			return writeTable(w, []string{"AT", "FROM", "TO", "BY"}, rows)
		}, nil
	})
}

func (a *app) channelHoldCommand(hold bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "hold CHANNEL", Short: "Let only operators move a channel", Args: takes(1, 1, "the channel"),
		Long:    "Let only operators move a channel: snapshots.auto and snapshots.promote of the configuration leave it where it is, until aptmesh channel release.",
		Example: "  aptmesh channel hold stable",
	}
	if !hold {
		cmd.Use, cmd.Short = "release CHANNEL", "Let schedules move a channel again"
		cmd.Long, cmd.Example = "Let snapshots.auto and snapshots.promote of the configuration move a channel again.", "  aptmesh channel release stable"
	}
	return a.asking(cmd, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		done, err := client.HoldChannel(ctx, args[0], hold, operatorName())
		return done, doneOf(args[0], done), err
	})
}

func (a *app) channelRemoveCommand() *cobra.Command {
	return a.asking(&cobra.Command{
		Use: "rm CHANNEL", Short: "Remove a channel", Args: takes(1, 1, "the channel"),
		Long:    "Remove a channel. Hosts that use it get 404 from then on. The snapshot that it stands for stays.",
		Example: "  aptmesh channel rm edge",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		done, err := client.RemoveChannel(ctx, args[0], operatorName())
		return done, doneOf(args[0], done), err
	})
}

// doneOf prints what came of an act on a name.
func doneOf(name string, done *admin.Done) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s\n%s", name, done.Message, unreachedLine(done.Unreached))
		return err
	}
}

// unreachedLine names the nodes that an act has not reached.
func unreachedLine(nodes []string) string {
	if len(nodes) == 0 {
		return ""
	}
	return "not reached: " + strings.Join(nodes, ", ") + " (they hear of it when they answer)\n"
}

// writeTable writes a table and nothing else.
func writeTable(w io.Writer, head []string, rows [][]string) error {
	var b strings.Builder
	table(&b, head, rows)
	_, err := io.WriteString(w, b.String())
	return err
}
