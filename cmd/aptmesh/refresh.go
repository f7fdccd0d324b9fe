package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) refreshCommand() *cobra.Command {
	var ask clientFlags
	var allowOlder bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "refresh ARCHIVE/SUITE...",
		Short: "Ask upstream for a new Release now",
		Long: `Make the node ask upstream for a newer Release of a suite at once, and wait until hosts
get it. Run it at the end of a publishing job, so that hosts see the result without
waiting for the next check.

A Release older than the current one is refused, because a mirror that lags must not take
hosts back. Use --allow-older if a publication was withdrawn and upstream really went
back. In a cluster, run that on every node: no node goes back because another one did.`,
		Example: `  aptmesh refresh ubuntu/noble
  aptmesh refresh debian/bookworm debian/bookworm-updates
  aptmesh refresh tools/dists/stable --timeout 5m`,
		Args:              takes(1, -1, "the suite (ARCHIVE/SUITE)"),
		ValidArgsFunction: a.completions(&ask, suiteNames),
		RunE: func(cmd *cobra.Command, suites []string) error {
			client, err := a.client(ask)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.eachSuite(suites, ask.json, func(suite string) (result any, line string, err error) {
				r, err := client.Refresh(ctx, suite, allowOlder)
				if err != nil {
					return nil, "", err
				}
				return r, r.Suite + ": " + r.Message, nil
			})
		},
	}
	ask.register(cmd)
	cmd.Flags().BoolVar(&allowOlder, "allow-older", false, "accept a Release that is older than the current one")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "give up after this long")
	return cmd
}

// eachSuite has the node do something about one suite after the other, until that fails, and prints what came of it: the
// line, or the result as JSON.
func (a *app) eachSuite(suites []string, asJSON bool, do func(suite string) (result any, line string, err error)) error {
	for _, suite := range suites {
		result, line, err := do(suite)
		if err != nil {
			return fmt.Errorf("%s: %w", suite, err)
		}
		if asJSON {
			err = a.printJSON(result)
		} else {
			_, err = fmt.Fprintln(a.out, line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
