package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/files"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check or show the configuration",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.configCheckCommand(), a.configShowCommand())
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	var noFiles bool
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "List everything that is wrong with a configuration",
		Long: `List everything that is wrong with a configuration, one line per problem with file, line
and column. The exit code is 1 if there is any problem; warnings alone do not count.

Root may read everything. So if root asks, and this machine has the user "aptmesh" of the service, the
command also warns of files that this user cannot read. For the configuration of another machine,
--no-files looks at none of the keyrings, keys and other files that it names.`,
		Example: `  aptmesh config check /etc/aptmesh/aptmesh.yaml
  aptmesh config check --no-files prod/fra1/aptmesh.yaml
  aptmesh config check && systemctl reload aptmesh`,
		Args: takes(0, 1, "a file"),
		RunE: func(_ *cobra.Command, args []string) error {
			a.loader.NoFiles = noFiles
			a.loader.Service = a.serviceUser()
			l, err := a.loadFile(args)
			if err != nil {
				return a.otherMachine(err)
			}
			for _, line := range append(l.warnings, l.notes...) {
				fmt.Fprintln(a.err, "warning: "+line)
			}
			what := archiveCount(l.cfg)
			switch {
			case noFiles && l.cfg.FromMachine:
				what = "the archives of its machine; the files that it names were not looked at"
			case noFiles:
				what += "; the files that it names were not looked at"
			}
			fmt.Fprintf(a.out, "%s: good: %s\n", l.from, what)
			return nil
		},
	}
	cmd.Flags().BoolVar(&noFiles, "no-files", false, "look at none of the files that the configuration names: it is for another machine")
	return cmd
}

// otherMachine adds to the problems of a configuration what may be the cause, if files are missing
// that a file outside of its place names.
func (a *app) otherMachine(err error) error {
	var found *keys.Error
	if a.configFile == "" || a.configFile == a.defaultConfig || a.loader.NoFiles || !errors.As(err, &found) {
		return err
	}
	if strings.Contains(found.Error(), " does not exist") {
		found.Problems = append(found.Problems, keys.Problem{Message: "note: --no-files checks the configuration of another machine without the files that it names"})
	}
	return err
}

// serviceUser is the user of deploy/aptmesh.service, for root on a machine that has it.
func serviceUser() *files.User {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := files.LookUpUser("aptmesh")
	if err != nil {
		return nil
	}
	return u
}

func (a *app) configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the configuration with the defaults filled in",
		Long: `Print the whole configuration as a file: every key with its meaning, the defaults filled in,
and *** in place of secrets. Without a configuration file it prints what a node would use
from this machine's apt sources. That is a good start for a file of your own.`,
		Example: `  aptmesh config show --config /etc/aptmesh/aptmesh.yaml
  aptmesh config show > aptmesh.yaml`,
		Args: takes(0, 1, "a file"),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.loadFile(args)
			if err != nil {
				return err
			}
			for _, n := range l.notes {
				fmt.Fprintf(a.out, "# %s\n", n)
			}
			if l.auto {
				// A node without a file sends no credentials, because no operator allowed it. The
				// file that is printed here begins with the default of a file.
				l.cfg.UpstreamClient.AuthConf = config.Default().UpstreamClient.AuthConf
			}
			return show(a, l.cfg)
		},
	}
}

func show(a *app, cfg *config.Config) error {
	text, err := cfg.Show()
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

// loadFile is loadConfig for a file that may be an argument as well as a flag.
func (a *app) loadFile(args []string) (*loaded, error) {
	if len(args) > 0 {
		if a.configFile != "" && a.configFile != args[0] {
			return nil, errors.New("--config and the argument name two files; name one")
		}
		a.configFile = args[0]
	}
	return a.loadConfig()
}
