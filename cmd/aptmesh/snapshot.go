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
	"github.com/aptmesh/aptmesh/node/config/keys"
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
	cmd.AddCommand(a.snapshotCreateCommand(), a.snapshotListCommand(), a.snapshotShowCommand(), a.snapshotDiffCommand(), a.snapshotRemoveCommand(), a.snapshotRestoreCommand())
	return cmd
}

func (a *app) snapshotCreateCommand() *cobra.Command {
	plan := admin.SnapshotPlan{By: operatorName()}
	var timeout time.Duration
	var detach bool
	cmd := a.asking(&cobra.Command{
		Use:   "create NAME",
		Short: "Take a snapshot",
		Long: `Take a snapshot of all suites that hosts use, all as they are at one moment.

--hold says what is kept stored of it: metadata (the Release files and the indexes that hosts use), used
(and the packages that hosts use now, with what these need), or all (and every file that these indexes
list). The node fetches what is missing, also after this command has ended.

The exit code is 3 if what is to be held does not fit: then no snapshot is taken. It is 4 if the
snapshot is there and not whole: files of it could not be had, or of a suite no index is kept, because
no host that the node knows of has used one.`,
		Example: `  aptmesh snapshot create 2026-w48
  aptmesh snapshot create before-upgrade --archive ubuntu --suite 'noble*' --note "before the kernel"`,
		Args: takes(1, 1, "the name"),
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		plan.Name = args[0]
		s, err := client.CreateSnapshot(ctx, plan)
		if err == nil && s.Forecast == nil && s.Packages != nil && !detach {
			err = a.followSnapshot(ctx, client, s)
		}
		switch {
		case err != nil:
			return nil, nil, err
		case s.Forecast != nil:
			if !s.Forecast.Fits {
				err = &exitError{code: exitRefused}
			}
			return s, func(w io.Writer) error { return printForecast(w, s.Name, s.Forecast) }, err
		case len(s.Missing)+len(unusedSuites(s)) > 0, s.Packages != nil && s.Packages.Phase != "done" && !detach:
			err = &exitError{code: exitIncomplete}
		}
		return s, func(w io.Writer) error { return printSnapshotResult(w, s) }, err
	})
	cmd.Flags().StringSliceVar(&plan.Archives, "archive", nil, "`ARCHIVE` to capture, or class of archives; may be given several times (default all)")
	cmd.Flags().StringSliceVar(&plan.Suites, "suite", nil, "`PATTERN` of the suites to capture, such as 'noble*'; may be given several times (default all)")
	cmd.Flags().Var((*moment)(&plan.At), "at", "take it of this `MOMENT`, as far as the node holds what was current then: 20261201T030000Z, or 2026-12-01T03:00:00Z (default now)")
	cmd.Flags().StringVar(&plan.Note, "note", "", "`TEXT` to remember why")
	cmd.Flags().Var((*days)(&plan.Expires), "expires", "remove it after this `TIME`, such as 120d, unless a channel stands for it then (default never)")
	cmd.Flags().StringVar(&plan.Hold, "hold", "metadata", "`LEVEL` of what is held: metadata, used or all")
	cmd.Flags().BoolVar(&plan.DryRun, "dry-run", false, "say what it takes, and take none")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for packages that are to be held")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "give up after this long")
	return cmd
}

// followSnapshot shows how far the packages of a new snapshot are until they are held.
func (a *app) followSnapshot(ctx context.Context, client *admin.Client, s *admin.SnapshotResult) error {
	show, finish := showRun(a.err)
	defer finish()
	for n := 0; s.Packages.Running() || s.Packages.Phase == "waiting"; n++ {
		show(s.Packages)
		select {
		case <-lookAgain(n):
		case <-ctx.Done():
			return fmt.Errorf("the snapshot is there, and the node goes on fetching its packages (aptmesh snapshot show %s says how far it is): %w", s.Name, context.Cause(ctx))
		}
		list, err := client.Snapshots(ctx, s.Name)
		if err != nil {
			return err
		}
		if s.Packages = list[0].Packages; s.Packages == nil {
			return fmt.Errorf("the snapshot %s was removed meanwhile", s.Name)
		}
	}
	return nil
}

// printHeld says what of a snapshot's packages is held.
func printHeld(b *strings.Builder, p *admin.Mirror) {
	fmt.Fprintf(b, "Holds     %s here, of a share of %s: %s\n", filesOf(p.Held), filesOf(p.Share), p.Phase)
	if p.Failure != "" {
		fmt.Fprintf(b, "Because   %s\n", p.Failure)
	}
	for _, lost := range p.Lost[:min(len(p.Lost), maxShown)] {
		fmt.Fprintf(b, "missing: %s: %s\n", lost.Location, lost.Error)
	}
	printOddities(b, p.UnresolvedCount, p.Unresolved, p.Unprovable, p.Unsized)
}

func printSnapshotResult(w io.Writer, s *admin.SnapshotResult) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %s kept\n", s.Name, suitesOf(len(s.Suites)), bytesOf(s.Bytes))
	if s.Packages != nil {
		printHeld(&b, s.Packages)
	}
	for _, m := range s.Missing {
		fmt.Fprintf(&b, "missing: %s: %s\n", m.Location, m.Error)
	}
	if unused := unusedSuites(s); len(unused) > 0 {
		fmt.Fprintf(&b, "no index: %s (the node knows of no host that uses one; take another snapshot when hosts have updated)\n", strings.Join(unused, ", "))
	}
	writeWarnings(&b, &s.Snapshot)
	b.WriteString(unreachedLine(s.Unreached))
	_, err := io.WriteString(w, b.String())
	return err
}

// days is a duration that may be given in days.
type days time.Duration

func (d *days) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

func (d *days) Set(text string) error {
	parsed, err := keys.ParseDuration(text)
	if err == nil && parsed < time.Second {
		err = fmt.Errorf("%q is no time", text)
	}
	*d = days(parsed)
	return err
}

func (*days) Type() string { return "duration" }

// moment is a moment on the command line.
type moment time.Time

func (m *moment) String() string {
	if time.Time(*m).IsZero() {
		return ""
	}
	return time.Time(*m).Format(time.RFC3339)
}

func (m *moment) Set(text string) error {
	for _, form := range []string{"20060102T150405Z", time.RFC3339} {
		if at, err := time.Parse(form, text); err == nil {
			*m = moment(at)
			return nil
		}
	}
	return fmt.Errorf("%q is no moment", text)
}

func (*moment) Type() string { return "moment" }

func writeWarnings(b *strings.Builder, s *admin.Snapshot) {
	for _, w := range s.Warnings {
		fmt.Fprintf(b, "note: %s\n", w)
	}
}

// unusedSuites are those of which a snapshot keeps no index: what they list is lost when upstream forgets it.
func unusedSuites(s *admin.SnapshotResult) (suites []string) {
	for _, suite := range s.Suites {
		if suite.Indexes == 0 {
			suites = append(suites, suite.Suite)
		}
	}
	return suites
}

func bytesOf(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func suitesOf(n int) string {
	if n == 1 {
		return "1 suite"
	}
	return fmt.Sprint(n, " suites")
}

func (a *app) snapshotListCommand() *cobra.Command {
	var removed bool
	cmd := a.asking(&cobra.Command{
		Use: "list", Short: "List the snapshots", Args: takes(0, 0, ""),
		Example: "  aptmesh snapshot list\n  aptmesh snapshot list --removed",
	}, func(ctx context.Context, client *admin.Client, _ []string) (any, func(io.Writer) error, error) {
		if removed {
			list, err := client.RemovedSnapshots(ctx)
			return list, func(w io.Writer) error { return printRemoved(w, list, time.Now()) }, err
		}
		list, err := client.Snapshots(ctx, "")
		return list, func(w io.Writer) error { return printSnapshots(w, list, time.Now()) }, err
	})
	cmd.Flags().BoolVar(&removed, "removed", false, "list those that were removed and can be restored")
	return cmd
}

func printRemoved(w io.Writer, list []admin.RemovedName, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nothing that was removed can be restored")
		return err
	}
	rows := make([][]string, len(list))
	for i, r := range list {
		why, target := "removed", r.Target
		if r.Orphaned {
			why = "given up: the node was away"
		}
		if r.Kind == "snapshot" {
			target = fmt.Sprintf("record %.12s", r.Target)
		}
		rows[i] = []string{r.Kind, r.Name, target, why, ago(r.At, now), "in " + admin.Age(r.Until.Sub(now))}
	}
	return writeTable(w, []string{"KIND", "NAME", "STOOD FOR", "WHY", "WHEN", "ENDS"}, rows)
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
		rows[i] = []string{s.Name, taken, fmt.Sprint(len(s.Suites)), bytesOf(s.Bytes), endsIn(s.Expires, now), s.By + "@" + s.Node, s.Record[:min(len(s.Record), 12)], s.Note}
	}
	return writeTable(w, []string{"NAME", "TAKEN", "SUITES", "KEEPS", "ENDS", "BY", "RECORD", "NOTE"}, rows)
}

// endsIn says when a snapshot is removed by itself.
func endsIn(at, now time.Time) string {
	switch {
	case at.IsZero():
		return "-"
	case !at.After(now):
		return "now, or when no channel uses it"
	}
	return "in " + admin.Age(at.Sub(now))
}

func (a *app) snapshotShowCommand() *cobra.Command {
	return a.asking(&cobra.Command{
		Use: "show NAME", Short: "Show what is in a snapshot, and what will become of it", Args: takes(1, 1, "the name"),
		Long: `Show what is in a snapshot, and what will become of it: until when hosts accept its suites, which
updates only some hosts will install, which packages depend on upstream keeping them. OWN is what
nothing else needs.`,
		Example: "  aptmesh snapshot show 2026-w48",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		s, err := client.ShowSnapshot(ctx, args[0])
		return s, func(w io.Writer) error { return printSnapshot(w, s) }, err
	})
}

func printSnapshot(w io.Writer, s *admin.Snapshot) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Snapshot  %s\n", s.Name)
	if s.Lost {
		fmt.Fprintf(&b, "Taken     unknown: its record is lost on this node, and nothing of it can be served\n")
	} else {
		fmt.Fprintf(&b, "Taken     %s by %s at %s\n", s.Taken.Format(time.RFC3339), cmp.Or(s.By, "an unknown user"), s.Node)
	}
	if !s.Expires.IsZero() {
		fmt.Fprintf(&b, "Expires   %s, unless a channel stands for it then\n", s.Expires.Format(time.RFC3339))
	}
	if s.Note != "" {
		fmt.Fprintf(&b, "Note      %s\n", s.Note)
	}
	fmt.Fprintf(&b, "Keeps     %s of signed roots and indexes, %s of them its own\n", bytesOf(s.Bytes), bytesOf(s.Own))
	if s.Packages != nil {
		printHeld(&b, s.Packages)
	}
	writeWarnings(&b, s)
	if len(s.Suites) > 0 {
		b.WriteByte('\n')
		rows := make([][]string, len(s.Suites))
		for i, suite := range s.Suites {
			until := "-"
			if !suite.AcceptedUntil.IsZero() {
				until = suite.AcceptedUntil.Format(time.RFC3339)
			}
			rows[i] = []string{suite.Suite, suite.Generation.Format(time.RFC3339), fmt.Sprint(suite.Indexes), until, cmp.Or(suite.Signer, "-")}
		}
		table(&b, []string{"SUITE", "GENERATION", "INDEXES", "ACCEPTED UNTIL", "SIGNER"}, rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) snapshotRemoveCommand() *cobra.Command {
	return a.asking(&cobra.Command{
		Use: "rm NAME", Short: "Remove a snapshot", Args: takes(1, 1, "the name"),
		Long: `Remove a snapshot. It is refused while a channel stands for it. For a day it can be restored with
all that it kept.`,
		Example: "  aptmesh snapshot rm 2026-w40",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		done, err := client.RemoveSnapshot(ctx, args[0], operatorName())
		return done, doneOf(args[0], done), err
	})
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var as string
	cmd := a.asking(&cobra.Command{
		Use: "restore NAME", Short: "Bring back a snapshot that was removed", Args: takes(1, 1, "the name"),
		Long: `Bring back a snapshot that was removed or has expired within the last day, or that the node has given
up because it was away for long. aptmesh snapshot list --removed lists them.`,
		Example: "  aptmesh snapshot restore 2026-w40",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		s, err := client.RestoreSnapshot(ctx, args[0], as, operatorName())
		if err == nil && len(s.Missing) > 0 {
			err = &exitError{code: exitIncomplete}
		}
		return s, func(w io.Writer) error { return printSnapshotResult(w, s) }, err
	})
	cmd.Flags().StringVar(&as, "as", "", "`NAME` to give it in place of its own")
	return cmd
}
