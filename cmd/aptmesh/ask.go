package main

import (
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node/admin"
)

// question asks a running node. print writes the result for people; with --json the result itself is written. An exit
// code without an error ends the command after that.
type question func(ctx context.Context, client *admin.Client, args []string) (result any, print func(io.Writer) error, err error)

// asking makes a command of a question.
func (a *app) asking(cmd *cobra.Command, ask question) *cobra.Command {
	var flags clientFlags
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := a.client(flags)
		if err != nil {
			return err
		}
		result, print, code := ask(cmd.Context(), client, args)
		var exit *exitError
		if code != nil && !(errors.As(code, &exit) && exit.err == nil) {
			return code
		}
		if flags.json {
			err = a.printJSON(result)
		} else {
			err = print(a.out)
		}
		return cmp.Or(err, code)
	}
	flags.register(cmd)
	return cmd
}
