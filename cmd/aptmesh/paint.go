package main

import (
	"io"
	"os"

	"github.com/fatih/color"
	"golang.org/x/term"

	"github.com/aptmesh/aptmesh/node/admin"
)

// exitError ends the command with a code of its own. Without an error there is
// nothing more to say.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// statusExit turns what is wrong with a node into the exit code of `status`.
func statusExit(notes []admin.Note) error {
	switch admin.Worst(notes) {
	case admin.LevelFailing:
		return &exitError{code: exitFailing}
	case admin.LevelAttention:
		return &exitError{code: exitFailed}
	}
	return nil
}

// paint colours words.
type paint struct{ good, attention, bad *color.Color }

// paintFor is for a writer: without colours where it is no terminal, and where
// NO_COLOR or TERM=dumb say so. The library itself looks at standard output only.
func paintFor(w io.Writer) paint {
	p := paint{color.New(color.FgGreen), color.New(color.FgYellow), color.New(color.FgRed, color.Bold)}
	f, ok := w.(*os.File)
	colours := ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	for _, c := range []*color.Color{p.good, p.attention, p.bad} {
		if colours {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
	}
	return p
}

func (p paint) level(l admin.Level) string {
	if l == admin.LevelFailing {
		return p.bad.Sprint(string(l))
	}
	return p.attention.Sprint(string(l))
}
