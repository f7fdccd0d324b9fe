package differential

import (
	"strings"
	"testing"
)

// pending are rows that differ today: name, or "name, mode", and why. A row in it that
// works again fails the test: take it out then. Nothing is ever added for a row that
// worked.
var pending = map[string]string{}

// sometimes begins the reason of a row that may work today, as when time decides.
const sometimes = "now and then: "

func pendingReason(r row, mode string) (reason string, ok bool) {
	if reason, ok = pending[r.name]; ok {
		return reason, true
	}
	reason, ok = pending[r.name+", "+mode]
	return reason, ok
}

// checkNames demands that both lists name rows that exist.
func checkNames(t *testing.T, rows map[string]bool) {
	t.Helper()
	for _, name := range brief {
		if !rows[row{name: name}.file()] {
			t.Errorf("brief names the row %q, which does not exist", name)
		}
	}
	for name := range pending {
		bare := name
		for _, mode := range []string{", mapped", ", proxy", ", cluster"} {
			if rest, ok := strings.CutSuffix(name, mode); ok {
				bare = rest
			}
		}
		if !rows[row{name: bare}.file()] {
			t.Errorf("pending names the row %q, which does not exist", name)
		}
	}
}
