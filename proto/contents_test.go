package proto

import (
	"slices"
	"testing"
)

func TestContents(t *testing.T) {
	ref := func(d byte, size int64) Ref { return Ref{Digest: Digest{d}, Size: size} }
	none := Ref{}
	for name, tt := range map[string]struct {
		object    ObjectRequest
		contents  int
		size, max int64
		accepts   []int64
		refuses   []int64
		only      map[int64]Ref
	}{
		"unlisted": {ObjectRequest{Ref: Ref{Size: UnknownSize}}, 0, UnknownSize, UnknownSize, []int64{0, 7, UnknownSize}, nil, map[int64]Ref{7: none}},
		"one":      {ObjectRequest{Ref: ref(1, 5)}, 1, 5, 5, []int64{5, UnknownSize}, []int64{4, 6}, map[int64]Ref{5: ref(1, 5), 6: none, UnknownSize: ref(1, 5)}},
		"by hash":  {ObjectRequest{Ref: ref(1, UnknownSize)}, 1, UnknownSize, UnknownSize, []int64{5}, nil, map[int64]Ref{5: ref(1, 5)}},
		"SHA-512":  {ObjectRequest{Ref: Ref{Size: 5}, SHA512: SHA512{1}}, 0, 5, 5, []int64{5}, []int64{6}, map[int64]Ref{5: none, 6: none}},
		"two lengths": {
			ObjectRequest{Ref: ref(1, 5), Others: []Ref{ref(2, 9)}}, 2, UnknownSize, 9, []int64{5, 9, UnknownSize}, []int64{7},
			map[int64]Ref{5: ref(1, 5), 9: ref(2, 9), 7: none, UnknownSize: none},
		},
		"one length": {
			ObjectRequest{Ref: ref(1, 5), Others: []Ref{ref(2, 5)}}, 2, 5, 5, []int64{5}, []int64{9}, map[int64]Ref{5: none, 9: none},
		},
		"a length that nobody knows": {
			ObjectRequest{Ref: ref(1, 5), Others: []Ref{ref(2, UnknownSize)}}, 2, UnknownSize, UnknownSize, []int64{5, 9}, nil,
			map[int64]Ref{5: none, 9: ref(2, 9)},
		},
		"SHA-512 and another": {
			ObjectRequest{Ref: Ref{Size: 5}, SHA512: SHA512{1}, Others: []Ref{ref(2, 9)}}, 1, UnknownSize, 9, []int64{5, 9}, []int64{7},
			map[int64]Ref{5: none, 9: ref(2, 9)},
		},
	} {
		w := &tt.object
		if n := len(slices.Collect(w.Contents())); n != tt.contents {
			t.Errorf("%s: %d contents, want %d", name, n, tt.contents)
		}
		if w.Size() != tt.size || w.MaxSize() != tt.max {
			t.Errorf("%s: sizes %d and %d, want %d and %d", name, w.Size(), w.MaxSize(), tt.size, tt.max)
		}
		for _, size := range tt.accepts {
			if !w.Accepts(size) {
				t.Errorf("%s: refuses %d bytes", name, size)
			}
		}
		for _, size := range tt.refuses {
			if w.Accepts(size) {
				t.Errorf("%s: accepts %d bytes", name, size)
			}
		}
		for size, want := range tt.only {
			if got := w.Only(size); got != want {
				t.Errorf("%s: of %d bytes there is only %v, want %v", name, size, got, want)
			}
		}
	}
}
