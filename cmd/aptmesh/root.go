package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/config"
)

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "aptmesh",
		Short: "A cache for package archives that never passes on a wrong byte",
		Long: `aptmesh is a cache for package archives. All hosts together fetch each file from the archive
once, and always see a repository that is complete, signed and consistent.

Without a configuration it serves the archives that this machine's own apt uses:

  aptmesh serve`,
		Version:       versionLine(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.understood = true
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "",
		"configuration `FILE` (default "+a.defaultConfig+" where it exists)")
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml") // fails for unknown flags only
	root.AddCommand(
		a.serveCommand(),
		a.clientConfigCommand(),
		a.statusCommand(),
		a.whyCommand(),
		a.refusedCommand(),
		a.refreshCommand(),
		a.dropCommand(),
		a.snapshotCommand(),
		a.channelCommand(),
		a.promoteCommand(),
		a.mirrorCommand(),
		a.exportCommand(),
		a.importCommand(),
		a.leaveCommand(),
		a.verifyCommand(),
		a.clusterCommand(),
		a.configCommand(),
		a.versionCommand(),
	)
	return root
}

// configPath returns the configuration file to use; "" where there is none.
func (a *app) configPath() (string, error) {
	if a.configFile != "" {
		return a.configFile, nil
	}
	_, err := os.Stat(a.defaultConfig)
	switch {
	case err == nil:
		return a.defaultConfig, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	}
	return "", fmt.Errorf("looking for a configuration: %w", err)
}

// loaded is a configuration and where it came from.
type loaded struct {
	cfg      *config.Config
	from     string // the file, or "this machine's apt configuration"
	auto     bool   // there is no file
	warnings []string
	notes    []string
}

// loadConfig reads the configuration file, or takes the machine's apt
// configuration where there is none.
func (a *app) loadConfig() (*loaded, error) {
	path, err := a.configPath()
	if err != nil {
		return nil, err
	}
	if path == "" {
		cfg, notes, err := a.autoConfig()
		if err != nil {
			return nil, err
		}
		return &loaded{cfg: cfg, auto: true, from: "this machine's apt configuration", notes: notes}, nil
	}
	cfg, warnings, err := a.loader.Load(path)
	if err != nil {
		return nil, err
	}
	l := &loaded{cfg: cfg, from: path}
	for _, w := range warnings {
		l.warnings = append(l.warnings, w.String())
	}
	return l, nil
}
