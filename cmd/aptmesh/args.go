package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// takes checks how many arguments a command is given; most -1 is any number. what names them in the
// error.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("%s is missing", what)
		case most == 0 && len(args) > 0:
			return fmt.Errorf("%q is too much: it takes no argument", args[0])
		case most >= 0 && len(args) > most:
			return fmt.Errorf("%q is too much: it takes %s and no more", args[most], what)
		}
		return nil
	}
}
