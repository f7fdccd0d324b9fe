package testarchive

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// applyEd is a plain reading of ed's a, c and d, from the last line up.
func applyEd(t *testing.T, from, script string) string {
	t.Helper()
	lines := strings.SplitAfter(from, "\n")
	lines = lines[:len(lines)-1]
	commands := strings.SplitAfter(script, "\n")
	for i := 0; i < len(commands)-1; i++ {
		var first, last int
		var op rune
		c := strings.TrimSuffix(commands[i], "\n")
		if n, _ := fmt.Sscanf(c, "%d,%d%c", &first, &last, &op); n != 3 {
			if n, _ := fmt.Sscanf(c, "%d%c", &first, &op); n != 2 {
				t.Fatalf("not a command of ed: %q", c)
			}
			last = first
		}
		var text []string
		if op != 'd' {
			for i++; commands[i] != ".\n"; i++ {
				text = append(text, commands[i])
			}
		}
		if op == 'a' {
			first++
		}
		lines = append(lines[:first-1:first-1], append(text, lines[last:]...)...)
	}
	return strings.Join(lines, "")
}

func TestEdScriptLeadsFromOneIndexToTheOther(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		index := func() string {
			var b strings.Builder
			for n := range rng.IntN(12) {
				if rng.IntN(3) > 0 {
					fmt.Fprintf(&b, "Package: p%02d\nVersion: %d\n\n", n, rng.IntN(2))
				}
			}
			return b.String()
		}
		from, to := index(), index()
		if got := applyEd(t, from, string(edScript([]byte(from), []byte(to)))); got != to {
			t.Fatalf("seed %d: %q patched becomes %q, want %q", seed, from, got, to)
		}
	}
}
