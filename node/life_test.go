package node

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
)

// A reload that fails is known until one succeeds, and does not hide what waits for a restart.
func TestLifeKnowsTheLatestReload(t *testing.T) {
	l := newLife(slog.New(slog.DiscardHandler))
	want := func(failed string, restart ...string) {
		t.Helper()
		if gotFailed, got := l.Reload(); gotFailed != failed || !slices.Equal(got, restart) {
			t.Errorf("%q, %q; want %q, %q", gotFailed, got, failed, restart)
		}
	}
	want("")
	l.reload.Store(&reload{restart: []string{"listen"}})
	want("", "listen")
	l.reloadFailed(errors.New("line 3"))
	want("line 3", "listen")
	l.reload.Store(&reload{})
	want("")
}
