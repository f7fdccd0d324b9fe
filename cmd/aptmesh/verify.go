package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/config"
)

func (a *app) verifyCommand() *cobra.Command {
	var data string
	var remove bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Hash all stored objects and list damaged ones",
		Long: `Hash every stored object and list those whose bytes do not match their digest. A node may
run at the same time. A node notices damage itself when it reads an object; this command
also finds damage to objects that no host asks for.

The exit code is 1 if damage was found and not removed.`,
		Example: `  aptmesh verify
  aptmesh verify --data /var/cache/aptmesh --remove`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := data
			if dir == "" {
				var err error
				if dir, err = a.dataDir(); err != nil {
					return err
				}
			}
			return a.verify(cmd.Context(), dir, remove)
		},
	}
	cmd.Flags().StringVarP(&data, "data", "d", "", "`DIR` of the node's data (default from the configuration)")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove damaged objects, so that they are fetched again when needed")
	_ = cmd.MarkFlagDirname("data")
	return cmd
}

// dataDir is the data directory that the configuration names.
func (a *app) dataDir() (string, error) {
	path, err := a.configPath()
	if err != nil {
		return "", err
	}
	if path == "" {
		return config.DataDir(), nil
	}
	cfg, err := config.Peek(path)
	if err != nil {
		return "", err
	}
	return cfg.Data, nil
}

func (a *app) verify(ctx context.Context, dir string, remove bool) error {
	started := time.Now()
	progress, finish := showProgress(a.err, "re-hashing")
	check := blobstore.Verify
	if remove {
		check = blobstore.Repair
	}
	report, err := check(ctx, dir, progress)
	finish()
	if err != nil {
		return err
	}
	left := 0
	for _, d := range report.Damaged {
		fate := ""
		if d.Removed {
			fate = " (removed)"
		} else {
			left++
		}
		fmt.Fprintf(a.out, "damaged: %s: %s%s\n", d.Digest, d.Reason, fate)
	}
	for _, f := range report.Foreign {
		fmt.Fprintf(a.out, "no part of the store: %s\n", f)
	}
	fmt.Fprintf(a.out, "%s, %s in %s: %d damaged\n", counted(report.Blobs, "object"),
		humanize.IBytes(uint64(report.Bytes)), time.Since(started).Round(time.Second), len(report.Damaged))
	if left > 0 {
		return fmt.Errorf("%d of %d objects in %s are damaged; `aptmesh verify --remove` takes them away, and they will be fetched again", left, report.Blobs, dir)
	}
	return nil
}

// showProgress returns what to call with the bytes done, and when it is over: a
// bar on a terminal, else a line for every tenth.
func showProgress(w io.Writer, what string) (progress func(done, total int64), finish func()) {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return progressBar(w, what)
	}
	tenth := int64(0)
	return func(done, total int64) {
		if total > 0 && done*10/total > tenth {
			tenth = done * 10 / total
			fmt.Fprintf(w, "%d%% of %s\n", tenth*10, humanize.IBytes(uint64(total)))
		}
	}, func() {}
}

func progressBar(w io.Writer, what string) (progress func(done, total int64), finish func()) {
	bar := progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	// Errors of the bar are those of the terminal, where nobody could read them.
	return func(done, total int64) {
			if bar.GetMax64() != total {
				bar.ChangeMax64(total)
			}
			_ = bar.Set64(done)
		}, func() {
			_ = bar.Clear()
		}
}
