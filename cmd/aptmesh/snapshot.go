package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

// operatorName is who runs the command, for the record.
func operatorName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint("uid ", os.Getuid())
}

func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Keep archives as they are at this moment, under a name",
		Long: `Keep archives as they are at this moment, under a name. Hosts use a snapshot at

  http://NODE:3142/snapshot/ARCHIVE/NAME/

in place of the archive's URL: there nothing changes, whatever the archive does. Nothing is
copied or signed again: the node keeps the signed Release files and the indexes that hosts use,
and verifies them with the keys of the archive. Packages are fetched when a host asks for them,
as long as upstream still has them.`,
	}
	cmd.AddCommand(a.snapshotCreateCommand(), a.snapshotListCommand(), a.snapshotShowCommand(), a.snapshotRemoveCommand())
	return cmd
}

func (a *app) snapshotCreateCommand() *cobra.Command {
	var ask clientFlags
	plan := admin.SnapshotPlan{By: operatorName()}
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Take a snapshot",
		Long: `Take a snapshot of all suites that hosts use, all as they are at one moment.

The exit code is 4 if the snapshot is there and files of it could not be had.`,
		Example: `  aptmesh snapshot create 2026-w48
  aptmesh snapshot create before-upgrade --archive ubuntu --suite 'noble*' --note "before the kernel"`,
		Args: takes(1, 1, "the name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			plan.Name = args[0]
			s, err := client.CreateSnapshot(ctx, plan)
			if err != nil {
				return err
			}
			if ask.json {
				err = a.printJSON(s)
			} else {
				err = printSnapshotResult(a.out, s)
			}
			if err == nil && len(s.Missing) > 0 {
				err = &exitError{code: exitIncomplete}
			}
			return err
		},
	}
	ask.register(cmd)
	cmd.Flags().StringSliceVar(&plan.Archives, "archive", nil, "`ARCHIVE` to capture; may be given several times (default all)")
	cmd.Flags().StringSliceVar(&plan.Suites, "suite", nil, "`PATTERN` of the suites to capture, such as 'noble*'; may be given several times (default all)")
	cmd.Flags().StringVar(&plan.Note, "note", "", "`TEXT` to remember why")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "give up after this long")
	return cmd
}

func printSnapshotResult(w io.Writer, s *admin.SnapshotResult) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %s kept\n", s.Name, suitesOf(len(s.Suites)), humanize.IBytes(uint64(max(s.Bytes, 0))))
	for _, m := range s.Missing {
		fmt.Fprintf(&b, "missing: %s: %s\n", m.Location, m.Error)
	}
	b.WriteString(unreachedLine(s.Unreached))
	_, err := io.WriteString(w, b.String())
	return err
}

// unreachedLine names the nodes that an act has not reached.
func unreachedLine(nodes []string) string {
	if len(nodes) == 0 {
		return ""
	}
	return "not reached: " + strings.Join(nodes, ", ") + " (they hear of it when they answer)\n"
}

func suitesOf(n int) string {
	if n == 1 {
		return "1 suite"
	}
	return fmt.Sprint(n, " suites")
}

func (a *app) snapshotListCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the snapshots", Args: takes(0, 0, ""),
		Example: "  aptmesh snapshot list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			list, err := client.Snapshots(cmd.Context(), "")
			if err != nil {
				return err
			}
			if ask.json {
				return a.printJSON(list)
			}
			return printSnapshots(a.out, list, time.Now())
		},
	}
	ask.register(cmd)
	return cmd
}

func printSnapshots(w io.Writer, list []admin.Snapshot, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "there is no snapshot; `aptmesh snapshot create NAME` takes one")
		return err
	}
	rows := make([][]string, len(list))
	for i, s := range list {
		taken := ago(s.Taken, now)
		if s.Lost {
			taken = "LOST"
		}
		rows[i] = []string{s.Name, taken, fmt.Sprint(len(s.Suites)), humanize.IBytes(uint64(max(s.Bytes, 0))), s.By + "@" + s.Node, s.Note}
	}
	var b strings.Builder
	table(&b, []string{"NAME", "TAKEN", "SUITES", "KEEPS", "BY", "NOTE"}, rows)
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) snapshotShowCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show what is in a snapshot", Args: takes(1, 1, "the name"),
		Example: "  aptmesh snapshot show 2026-w48",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			list, err := client.Snapshots(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if ask.json {
				return a.printJSON(list[0])
			}
			return printSnapshot(a.out, &list[0])
		},
	}
	ask.register(cmd)
	return cmd
}

func printSnapshot(w io.Writer, s *admin.Snapshot) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Snapshot  %s\n", s.Name)
	if s.Lost {
		fmt.Fprintf(&b, "Taken     unknown: its record is lost on this node, and nothing of it can be served\n")
	} else {
		fmt.Fprintf(&b, "Taken     %s by %s at %s\n", s.Taken.Format(time.RFC3339), cmp.Or(s.By, "an unknown user"), s.Node)
	}
	if s.Note != "" {
		fmt.Fprintf(&b, "Note      %s\n", s.Note)
	}
	fmt.Fprintf(&b, "Keeps     %s of signed roots and indexes\n", humanize.IBytes(uint64(max(s.Bytes, 0))))
	if len(s.Suites) > 0 {
		b.WriteByte('\n')
		rows := make([][]string, len(s.Suites))
		for i, suite := range s.Suites {
			rows[i] = []string{suite.Suite, suite.Generation.Format(time.RFC3339), fmt.Sprint(suite.Indexes)}
		}
		table(&b, []string{"SUITE", "GENERATION", "INDEXES"}, rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) snapshotRemoveCommand() *cobra.Command {
	var ask clientFlags
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Remove a snapshot", Args: takes(1, 1, "the name"),
		Long:    "Remove a snapshot. It is refused while a channel stands for it.",
		Example: "  aptmesh snapshot rm 2026-w40",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			done, err := client.RemoveSnapshot(cmd.Context(), args[0], operatorName())
			return a.printDone(args[0], done, err, ask.json)
		},
	}
	ask.register(cmd)
	return cmd
}

// printDone prints what came of an act on a name.
func (a *app) printDone(name string, done *admin.Done, err error, asJSON bool) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return a.printJSON(done)
	}
	_, err = fmt.Fprintf(a.out, "%s: %s\n%s", name, done.Message, unreachedLine(done.Unreached))
	return err
}
