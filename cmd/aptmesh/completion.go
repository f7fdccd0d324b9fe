package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

// completeWait bounds how long a shell waits for the names.
const completeWait = 2 * time.Second

// completions offers the shell names that the running node knows. Without a node it offers none.
func (a *app) completions(ask *clientFlags, names func(*admin.Status) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		client, err := a.client(*ask)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		parent := cmd.Context()
		if parent == nil {
			parent = context.Background()
		}
		ctx, cancel := context.WithTimeout(parent, completeWait)
		defer cancel()
		s, err := client.Status(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var offered []cobra.Completion
		for _, name := range names(s) {
			if strings.HasPrefix(name, begun) && !slices.Contains(given, name) {
				offered = append(offered, name)
			}
		}
		return offered, cobra.ShellCompDirectiveNoFileComp
	}
}

// suiteNames are the suites of a node, as refresh and drop take them.
func suiteNames(s *admin.Status) []string {
	var names []string
	for _, archive := range s.Archives {
		for _, suite := range archive.Suites {
			names = append(names, archive.Name+"/"+strings.TrimPrefix(suite.Dir, "dists/"))
		}
	}
	return names
}

// missingNames are the nodes that can be removed.
func missingNames(s *admin.Status) []string {
	var names []string
	if s.Cluster == nil {
		return nil
	}
	for _, m := range s.Cluster.Members {
		if m.State == admin.MemberMissing {
			names = append(names, m.Name)
		}
	}
	return names
}
