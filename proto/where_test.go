package proto

import (
	"slices"
	"testing"
)

func TestWhere(t *testing.T) {
	a, b, c := Location{"x", "a"}, Location{"x", "b"}, Location{"x", "c"}
	shared := []Location{a, b, c}
	for name, tt := range map[string]struct {
		where Where
		want  []Location
	}{
		"nothing":                   {Where{}, nil},
		"one":                       {At(a), []Location{a}},
		"several":                   {At(a, b, c), []Location{a, b, c}},
		"the asked name comes once": {Where{b, shared}, []Location{b, a, c}},
		"of no locations":           {WhereOf(nil), nil},
		"of one":                    {WhereOf(shared[:1]), []Location{a}},
		"of several":                {WhereOf(shared), shared},
	} {
		t.Run(name, func(t *testing.T) {
			w := tt.where
			if got := slices.Collect(w.All()); !slices.Equal(got, tt.want) {
				t.Errorf("All: %v, want %v", got, tt.want)
			}
			if w.Len() != len(tt.want) || w.IsZero() != (len(tt.want) == 0) {
				t.Errorf("Len %d, IsZero %v", w.Len(), w.IsZero())
			}
			for i, loc := range tt.want {
				if w.Nth(i) != loc {
					t.Errorf("Nth(%d) is %v, want %v", i, w.Nth(i), loc)
				}
			}
			for range w.All() {
				break // whoever stops early is not called again
			}
		})
	}
}
