package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/aptmesh/aptmesh/node/admin"
)

func (a *app) mirrorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "Hold all files of suites before a host asks for them",
		Long: `Hold all files of suites before a host asks for them. Mirrors stand in the configuration (mirrors:);
each node of a cluster follows what the suites publish by itself, within the mirror's window. What a
mirror holds is never evicted, and is served when upstream is down or has dropped it.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused because it does not fit, 4 incomplete.`,
	}
	cmd.AddCommand(a.mirrorPlanCommand(), a.mirrorRunCommand(), a.mirrorStatusCommand(), a.mirrorVerifyCommand())
	return cmd
}

func (a *app) mirrorPlanCommand() *cobra.Command {
	return a.asking(&cobra.Command{
		Use: "plan NAME", Short: "Say what a mirror takes before anything is fetched", Args: takes(1, 1, "the name of the mirror"),
		Long: `Say what a mirror takes: the exact number of files and bytes, from the indexes that upstream has now,
and which part of them each node holds. Only indexes are fetched for it.`,
		Example: "  aptmesh mirror plan noble-amd64",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		f, err := client.PlanMirror(ctx, args[0])
		if err == nil && !f.Fits {
			err = &exitError{code: exitRefused}
		}
		return f, func(w io.Writer) error { return printForecast(w, args[0], f) }, err
	})
}

func filesOf(c admin.FileCount) string {
	return fmt.Sprintf("%s, %s", counted(c.Files, "file"), bytesOf(c.Bytes))
}

func exactly(n int64) string { return fmt.Sprintf("%s (%d bytes)", bytesOf(n), n) }

func printForecast(w io.Writer, name string, f *admin.Forecast) error {
	var b strings.Builder
	all := admin.FileCount{Files: f.Indexes.Files + f.Packages.Files, Bytes: f.Indexes.Bytes + f.Packages.Bytes}
	fmt.Fprintf(&b, "%s: %s, %s\n", name, counted(all.Files, "file"), exactly(all.Bytes))
	for _, s := range f.Suites {
		fmt.Fprintf(&b, "  %s of %s\n", s.Suite, s.Generation.Format(time.RFC3339))
	}
	printUnchecked(&b, f.Unchecked)
	fmt.Fprintf(&b, "Indexes   %s\nPackages  %s\n", filesOf(f.Indexes), filesOf(f.Packages))
	if len(f.Nodes) > 0 {
		for _, node := range slices.Sorted(maps.Keys(f.Nodes)) {
			fmt.Fprintf(&b, "Node      %s: %s\n", node, filesOf(f.Nodes[node]))
		}
	}
	fmt.Fprintf(&b, "Here      %s, of which %s are stored already: %s to fetch\n", filesOf(f.Share), bytesOf(f.Stored.Bytes), bytesOf(f.Share.Bytes-f.Stored.Bytes))
	if f.Fits {
		fmt.Fprintf(&b, "Fits      %s more are held then, besides %s of %s that may be\n", bytesOf(f.Need), bytesOf(f.Held), bytesOf(f.Limit))
	} else {
		fmt.Fprintf(&b, "Refused   %s\n", f.Refused)
	}
	printOddities(&b, f.UnresolvedCount, f.Unresolved, f.Unprovable, f.Unsized)
	_, err := io.WriteString(w, b.String())
	return err
}

// maxShown bounds what is listed for people; --json has more.
const maxShown = 20

func printOddities(b *strings.Builder, count int, needs []admin.UnresolvedNeed, unprovable, unsized int) {
	if count > 0 {
		fmt.Fprintf(b, "\n%s of packages that nothing in the suites meets:\n", counted(count, "need"))
		for _, u := range needs[:min(len(needs), maxShown)] {
			fmt.Fprintf(b, "  %s %s (%s): %s\n", u.Package, u.Version, cmp.Or(u.Arch, "any"), u.Need)
		}
		if count > maxShown {
			fmt.Fprintf(b, "  and %d more\n", count-maxShown)
		}
	}
	if unprovable > 0 {
		fmt.Fprintf(b, "%s cannot be held: no strong sum is listed for them\n", counted(unprovable, "file"))
	}
	if unsized > 0 {
		fmt.Fprintf(b, "%s have no size in the indexes, and are in no number of bytes\n", counted(unsized, "file"))
	}
}

func (a *app) mirrorRunCommand() *cobra.Command {
	var detach bool
	cmd := a.asking(&cobra.Command{
		Use: "run NAME", Short: "Bring a mirror up to date now", Args: takes(1, 1, "the name of the mirror"),
		Long: `Bring a mirror up to date now, whatever its window is: ask upstream for new generations, and have each node
of the cluster fetch what is missing of its share. The nodes do the work. They go on if this command is
interrupted; the command can be run again to look on.`,
		Example: "  aptmesh mirror run noble-amd64\n  aptmesh mirror run noble-amd64 --detach",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		m, err := client.RunMirror(ctx, args[0])
		if err != nil {
			return nil, nil, err
		}
		if detach {
			return m, func(w io.Writer) error { return printStarted(w, m) }, nil
		}
		m, print, err := a.followMirror(ctx, client, m)
		if err == nil && m.Unchecked != "" { // who runs it every night must not think that all is of today
			err = &exitError{code: exitIncomplete}
		}
		return m, print, err
	})
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait")
	return cmd
}

func (a *app) mirrorVerifyCommand() *cobra.Command {
	var detach bool
	cmd := a.asking(&cobra.Command{
		Use: "verify NAME", Short: "Read all that a mirror holds, and fetch what is damaged", Args: takes(1, 1, "the name of the mirror"),
		Long: `Read and hash all that a mirror holds, on each node of the cluster. What is damaged is removed, and fetched
again together with what is missing. The nodes do the work, and go on if this command is interrupted.`,
		Example: "  aptmesh mirror verify noble-amd64",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		m, err := client.VerifyMirror(ctx, args[0])
		if err != nil {
			return nil, nil, err
		}
		if detach {
			return m, func(w io.Writer) error { return printStarted(w, m) }, nil
		}
		return a.followMirror(ctx, client, m)
	})
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait")
	return cmd
}

func printStarted(w io.Writer, m *admin.Mirror) error {
	_, err := fmt.Fprintf(w, "%s: the node %s works on it; `aptmesh mirror status %s` says how far it is\n", m.Name, m.Node, m.Name)
	return err
}

// followEvery is how often a run is looked at in the end; a short one is looked at more often.
const followEvery = 300 * time.Millisecond

// lookAgain is when a run that has been looked at n times is looked at again.
func lookAgain(n int) <-chan time.Time {
	return time.After(min(10*time.Millisecond<<min(n, 10), followEvery))
}

// followMirror shows how far a run is until it ends.
func (a *app) followMirror(ctx context.Context, client *admin.Client, m *admin.Mirror) (*admin.Mirror, func(io.Writer) error, error) {
	show, finish := showRun(a.err)
	defer finish()
	for n := 0; m.Running(); n++ {
		show(m)
		select {
		case <-lookAgain(n):
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("the node %s goes on with %s (aptmesh mirror status %s says how far it is): %w", m.Node, m.Name, m.Name, context.Cause(ctx))
		}
		list, err := client.Mirrors(ctx, m.Name)
		if err != nil {
			return nil, nil, err
		}
		m = &list[0]
	}
	exit := exitOf(m.Phase)
	for _, n := range m.Others {
		if exit == nil {
			exit = exitOf(n.Phase)
		}
	}
	return m, func(w io.Writer) error { finish(); return printMirror(w, m) }, exit
}

// exitOf is the exit code of a run that ended in a phase.
func exitOf(phase string) error {
	switch phase {
	case "refused":
		return &exitError{code: exitRefused}
	case "incomplete", "waiting", "": // "": the node does not answer
		return &exitError{code: exitIncomplete}
	case "failed":
		return &exitError{code: exitFailed}
	}
	return nil
}

// showRun returns what to call with a run as it is, and when it is over, which may be told twice: a bar on a terminal,
// else a line for every tenth.
func showRun(w io.Writer) (show func(*admin.Mirror), finish func()) {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar := progressbar.NewOptions64(1,
			progressbar.OptionSetWriter(w), progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true),
		)
		// Errors of the bar are those of the terminal, where nobody could read them.
		return func(m *admin.Mirror) {
			bar.Describe(m.Phase)
			done, total := farOf(m)
			if total > 0 && bar.GetMax64() != total {
				bar.ChangeMax64(total)
			}
			if total > 0 {
				_ = bar.Set64(min(done, total))
			}
		}, func() { _ = bar.Clear() }
	}
	tenth, phase := int64(-1), ""
	return func(m *admin.Mirror) {
		done, total := farOf(m)
		if total > 0 && (done*10/total > tenth || m.Phase != phase) {
			tenth, phase = done*10/total, m.Phase
			line := fmt.Sprintf("%s: %d%% of %s", m.Phase, done*100/total, bytesOf(total))
			if m.Rate > 0 {
				line += fmt.Sprintf(", %s/s, %s left", bytesOf(m.Rate), time.Duration(m.RemainingSeconds)*time.Second)
			}
			fmt.Fprintln(w, line)
		}
	}, func() {}
}

// farOf is how many bytes of all a run has done.
func farOf(m *admin.Mirror) (done, total int64) {
	switch m.Phase {
	case "verifying":
		return m.Checked.Bytes, m.CheckOf
	case "fetching":
		return min(m.Total.Bytes-m.ToFetch+m.Fetched, m.Total.Bytes), m.Total.Bytes
	}
	return 0, 0
}

func (a *app) mirrorStatusCommand() *cobra.Command {
	return a.asking(&cobra.Command{
		Use: "status [NAME]", Short: "Show what mirrors hold", Args: takes(0, 1, "the name of a mirror"),
		Long: `Show what mirrors hold on this node and in the cluster. With a name, everything about that one; the exit
code is 3 if it was refused, 4 if files are missing.`,
		Example: "  aptmesh mirror status\n  aptmesh mirror status noble-amd64 --json",
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		if len(args) == 0 { // of this node
			list, err := client.Mirrors(ctx, "")
			return list, func(w io.Writer) error { return printMirrors(w, list) }, err
		}
		list, err := client.Mirrors(ctx, args[0])
		if err != nil {
			return nil, nil, err
		}
		m := &list[0]
		switch {
		case m.Phase == "refused":
			err = &exitError{code: exitRefused}
		case m.Missing.Files > 0 || len(m.Generations) == 0,
			slices.ContainsFunc(m.Others, func(n admin.MirrorNode) bool { return n.Phase == "" || n.Missing.Files > 0 }):
			err = &exitError{code: exitIncomplete}
		}
		return m, func(w io.Writer) error { return printMirror(w, m) }, err
	})
}

func printMirrors(w io.Writer, list []admin.Mirror) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "there is no mirror; `mirrors:` in the configuration names them")
		return err
	}
	rows := make([][]string, len(list))
	for i, m := range list {
		rows[i] = []string{m.Name, m.Phase, bytesOf(m.Listed.Bytes), bytesOf(m.Share.Bytes), bytesOf(m.Held.Bytes), fmt.Sprint(m.Missing.Files), fmt.Sprint(len(m.Generations))}
	}
	return writeTable(w, []string{"MIRROR", "PHASE", "LISTED", "SHARE", "HELD", "MISSING", "GENERATIONS"}, rows)
}

// printUnchecked says that there may be something newer.
func printUnchecked(b *strings.Builder, why string) {
	if why != "" {
		fmt.Fprintf(b, "Upstream  could not be asked, so there may be something newer: %s\n", why)
	}
}

func printMirror(w io.Writer, m *admin.Mirror) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Mirror    %s on node %s: %s\n", m.Name, m.Node, m.Phase)
	if m.Failure != "" {
		fmt.Fprintf(&b, "Because   %s\n", m.Failure)
	}
	printUnchecked(&b, m.Unchecked)
	if !m.Next.IsZero() {
		fmt.Fprintf(&b, "Next      %s\n", m.Next.Local().Format(time.DateTime))
	}
	fmt.Fprintf(&b, "Listed    %s\nHeld      %s here, of a share of %s\nCluster   %s\nOwn       %s\nMissing   %s\n",
		filesOf(m.Listed), filesOf(m.Held), filesOf(m.Share), filesOf(m.Cluster), filesOf(m.Own), filesOf(m.Missing))
	if m.Phase == "fetching" {
		fmt.Fprintf(&b, "Fetched   %s of %s, %s/s, %s left\n", bytesOf(m.Fetched), bytesOf(m.ToFetch), bytesOf(m.Rate), time.Duration(m.RemainingSeconds)*time.Second)
	}
	if m.CheckOf > 0 {
		fmt.Fprintf(&b, "Verified  %s of %s, %d damaged\n", filesOf(m.Checked), bytesOf(m.CheckOf), m.Damaged)
	}
	if m.Absent > 0 {
		fmt.Fprintf(&b, "Absent    %s that upstream lists and has only in another compression\n", counted(m.Absent, "index file"))
	}
	if len(m.Others) > 0 {
		rows := make([][]string, len(m.Others))
		for i, n := range m.Others {
			rows[i] = []string{n.Node, cmp.Or(n.Phase, "unknown"), bytesOf(n.Share.Bytes), bytesOf(n.Held.Bytes), fmt.Sprint(n.Missing.Files), n.Failure}
		}
		b.WriteByte('\n')
		table(&b, []string{"OTHER NODE", "PHASE", "SHARE", "HELD", "MISSING", ""}, rows)
	}
	for i, g := range m.Generations {
		whole := ""
		if !g.Whole {
			whole = ", not whole"
		}
		fmt.Fprintf(&b, "\nGeneration %d: %s%s\n", i+1, filesOf(g.FileCount), whole)
		for _, s := range g.Suites {
			fmt.Fprintf(&b, "  %s of %s\n", s.Suite, s.Generation.Format(time.RFC3339))
		}
	}
	if m.LostCount > 0 {
		fmt.Fprintf(&b, "\n%s could not be had:\n", counted(m.LostCount, "file"))
		for _, lost := range m.Lost[:min(len(m.Lost), maxShown)] {
			fmt.Fprintf(&b, "  %s: %s\n", lost.Location, lost.Error)
		}
	}
	printOddities(&b, m.UnresolvedCount, m.Unresolved, m.Unprovable, m.Unsized)
	_, err := io.WriteString(w, b.String())
	return err
}
