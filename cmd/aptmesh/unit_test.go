package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The service manager must know the exit code of a node that has left.
func TestUnitKnowsLeaving(t *testing.T) {
	text, err := os.ReadFile("../../deploy/aptmesh.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, key := range []string{"RestartPreventExitStatus", "SuccessExitStatus"} {
		if want := key + "=" + strconv.Itoa(exitLeft); !slices.Contains(lines, want) {
			t.Errorf("the unit has no line %s", want)
		}
	}
}
