package view

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

var testSeed = Seed{1, 2, 3, 15: 9}

// memLists is a ListSource.
type memLists map[string][]byte

func (m memLists) OpenList(name string) (io.ReadCloser, error) {
	b, ok := m[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func file(path, content string) proto.File {
	return proto.File{Path: []byte(path), Size: int64(len(content)), SHA256: proto.DigestOf([]byte(content))}
}

func strongFile(path, content string) proto.File {
	return proto.File{Path: []byte(path), Size: int64(len(content)), SHA512: sha512.Sum512([]byte(content))}
}

func ref(content string) proto.Ref {
	return proto.Ref{Digest: proto.DigestOf([]byte(content)), Size: int64(len(content))}
}

func listOf(t testing.TB, files ...proto.File) *List {
	t.Helper()
	b := NewListBuilder(testSeed, 0)
	for _, f := range files {
		if err := b.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	l, err := b.List()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func fileOf(t testing.TB, l *List) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := l.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func tableOf(t testing.TB, src ListSource, current, retained []string) *Table {
	t.Helper()
	tab, lost := BuildTable(testSeed, src, current, retained, 0)
	if len(lost) > 0 {
		t.Fatalf("lost %+v", lost)
	}
	return tab
}

func frozenOf(t testing.TB, src ListSource, current ...string) (*Frozen, []byte) {
	t.Helper()
	var b bytes.Buffer
	n, err := WriteFrozen(&b, testSeed, src, current)
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenFrozen(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || f.Len() != n {
		t.Fatalf("%d rows, %v", n, err)
	}
	return f, b.Bytes()
}

func poolPath(i int) string {
	return fmt.Sprintf("pool/main/p/package-%d/package-%d_1.0_amd64.deb", i, i)
}

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// all are the contents that a look-up gives, the first one first.
func (l Listed) all() []proto.Ref { return append([]proto.Ref{l.Ref}, l.Others...) }
