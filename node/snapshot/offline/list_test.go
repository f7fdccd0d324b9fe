package offline

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// lines is a format whose indexes have a line for each file: its path, and the kinds of sums that they list for it.
type lines struct{}

func (lines) Parse(_ proto.Suite, _ *proto.Member, stored io.Reader, emit func(proto.File) error) error {
	text, err := io.ReadAll(stored)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		path, sums, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return errors.New("no index")
		}
		content := []byte("content of " + path)
		if word, other, found := strings.Cut(sums, "="); found { // another content under the path
			sums, content = word, []byte(other)
		}
		f := proto.File{Path: []byte(path), Size: int64(len(content))}
		switch sums {
		case "sha256":
			f.SHA256 = proto.DigestOf(content)
		case "sha512":
			f.SHA512 = sha512.Sum512(content)
		}
		if err := emit(f); err != nil {
			return err
		}
	}
	return nil
}

func (lines) Names(m *proto.Member) []string { return []string{m.Path, "by-hash/" + m.Path} }

func (lines) Beside(path string) []string {
	if strings.HasSuffix(path, ".pkg") {
		return []string{path + ".sig"}
	}
	return nil
}

// node has blobs, and an upstream that has more.
type node struct {
	stored, upstream map[string]string // contents by path
	fetched          []string
}

func (n *node) lister() *Lister {
	has := func(o proto.ObjectRequest, text string, ok bool) bool {
		return ok && (!o.Ref.IsZero() && o.Ref.Digest == proto.DigestOf([]byte(text)) || o.Ref.IsZero() && o.SHA512 == sha512.Sum512([]byte(text)))
	}
	return &Lister{
		Format: func(string) Format { return lines{} },
		Stored: func(o proto.ObjectRequest) bool {
			text, ok := n.stored[o.Where.First.Path]
			return has(o, text, ok)
		},
		Open: func(_ context.Context, o proto.ObjectRequest) (*proto.Blob, error) {
			path := o.Where.First.Path
			text, ok := n.stored[path]
			if !ok {
				if text, ok = n.upstream[path]; ok {
					n.fetched = append(n.fetched, path)
					n.stored[path] = text
				}
			}
			if !has(o, text, ok) {
				return nil, fmt.Errorf("%s: %w", path, proto.ErrNotFound)
			}
			return &proto.Blob{Ref: proto.Ref{Digest: proto.DigestOf([]byte(text)), Size: int64(len(text))}, Bytes: []byte(text)}, nil
		},
		Unlisted: func(_ context.Context, loc proto.Location) (*proto.Blob, error) {
			text, ok := n.upstream[loc.Path]
			switch {
			case !ok:
				return nil, proto.ErrNotFound
			case text == "down":
				return nil, errors.New("upstream does not answer")
			}
			return &proto.Blob{Ref: proto.Ref{Digest: proto.DigestOf([]byte(text)), Size: int64(len(text))}, Bytes: []byte(text)}, nil
		},
	}
}

// suite is one with a root and these indexes, of which those with a star are kept.
func (n *node) suite(dir string, indexes map[string]string) proto.Listing {
	root := "root of " + dir
	n.stored[dir+"/root"] = root
	l := proto.Listing{Captured: proto.Captured{Generation: proto.Generation{
		Suite: proto.Suite{Archive: "a", Dir: dir}, RootName: "root", Root: proto.Ref{Digest: proto.DigestOf([]byte(root)), Size: int64(len(root))},
	}}, Manifest: &proto.Manifest{}}
	for name, text := range indexes {
		path, kept := strings.CutSuffix(name, "*")
		plain, _, _ := strings.Cut(path, ".")
		l.Manifest.Members = append(l.Manifest.Members, proto.Member{
			Path: path, Slot: path, Plain: plain, Table: path, Ref: proto.Ref{Digest: proto.DigestOf([]byte(text)), Size: int64(len(text))}, Upstream: []string{path},
		})
		if kept {
			l.Captured.Indexes = append(l.Captured.Indexes, proto.Captive{Path: path})
		}
	}
	slices.SortFunc(l.Manifest.Members, func(a, b proto.Member) int { return strings.Compare(a.Path, b.Path) })
	return l
}

func TestList(t *testing.T) {
	const index = "pool/here sha256\npool/there sha256\npool/strong sha512\npool/weak md5\npool/p.pkg sha256\n"
	n := &node{stored: map[string]string{
		"s/index": index, "s/index.z": index, "t/index": "pool/here sha256=other\npool/t sha256\n",
		"pool/here": "content of pool/here", "pool/p.pkg": "content of pool/p.pkg", "pool/t": "content of pool/t",
	}, upstream: map[string]string{
		"pool/there": "content of pool/there", "pool/strong": "content of pool/strong", "pool/p.pkg.sig": "signature", "s/kept": "pool/kept sha256\n",
	}}
	suites := []proto.Listing{
		n.suite("s", map[string]string{"index*": index, "index.z*": index, "unused": "pool/never sha256\n", "kept*": "pool/kept sha256\n", "gone*": "pool/gone sha256\n"}),
		n.suite("t", map[string]string{"index*": "pool/here sha256=other\npool/t sha256\n"}),
	}
	list := func(order Order) (got []string, left Left) {
		t.Helper()
		left, err := n.lister().List(t.Context(), suites, order, func(f *File) error {
			line := fmt.Sprintf("%s %s", f.Kind, strings.Join(f.Paths, "+"))
			if !f.Stored {
				line += " not-stored"
			}
			if f.Missing != "" {
				line += ": " + f.Missing
			} else if f.Ref.IsZero() || f.Ref.Size <= 0 {
				t.Errorf("%s has no content: %v", f.Paths[0], f.Ref)
			}
			got = append(got, line)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got, left
	}
	roots := []string{"root s/root", "root t/root"}
	indexes := []string{"index s/gone+s/by-hash/gone not-stored", "index s/index+s/by-hash/index", "index s/index.z+s/by-hash/index.z"}
	got, left := list(Order{})
	want := slices.Concat(roots, indexes, []string{"index s/kept+s/by-hash/kept not-stored", "index t/index+t/by-hash/index", "package pool/here", "package pool/p.pkg", "package pool/t"})
	if !slices.Equal(got, want) {
		t.Errorf("what is stored:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if left.Unprovable != 1 || left.Unstored != 4 || left.Conflicting != 0 || len(left.Unread) != 1 || !strings.Contains(left.Unread[0], "s/gone cannot be read") {
		t.Errorf("%+v", left)
	}
	got, left = list(Order{All: true, Beside: true})
	want = slices.Concat(roots, indexes, []string{"index s/kept+s/by-hash/kept", "index t/index+t/by-hash/index", "package pool/here", "package pool/there not-stored", "package pool/strong",
		"package pool/p.pkg", "package pool/kept not-stored", "package pool/t", "beside pool/p.pkg.sig"})
	if !slices.Equal(got, want) {
		t.Errorf("all:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if left.Unprovable != 1 || left.Unstored != 0 || left.Conflicting != 1 {
		t.Errorf("%+v", left)
	}
	if !slices.Equal(n.fetched, []string{"s/kept", "pool/strong"}) {
		t.Errorf("fetched %q", n.fetched)
	}
	n.upstream["pool/p.pkg.sig"] = "down"
	if got, _ := list(Order{All: true, Beside: true}); got[len(got)-1] != "beside pool/p.pkg.sig not-stored: upstream does not answer" {
		t.Errorf("%q", got)
	}
	broken := errors.New("the client has gone")
	for calls := range len(want) - 1 {
		left := calls
		_, err := n.lister().List(t.Context(), suites, Order{All: true}, func(*File) error {
			if left--; left < 0 {
				return broken
			}
			return nil
		})
		if !errors.Is(err, broken) {
			t.Errorf("after %d files: %v", calls, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.lister().List(ctx, suites, Order{All: true}, func(*File) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a list that nobody waits for: %v", err)
	}
}

// An object that is not stored is read to its end before its first byte is given out.
func TestOpenStored(t *testing.T) {
	var opened int
	stream := func(bad bool) func(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
		return func(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
			if opened++; opened > 1 {
				return &proto.Blob{Bytes: []byte("all")}, nil
			}
			var body io.Reader = bytes.NewReader([]byte("all"))
			if bad {
				body = io.MultiReader(body, errReader{})
			}
			return &proto.Blob{Stream: io.NopCloser(body)}, nil
		}
	}
	if b, err := OpenStored(t.Context(), stream(false), proto.ObjectRequest{}); err != nil || string(b.Bytes) != "all" || opened != 2 {
		t.Errorf("%+v, %v", b, err)
	}
	opened = 0
	if _, err := OpenStored(t.Context(), stream(true), proto.ObjectRequest{}); !errors.Is(err, proto.ErrCorrupt) || opened != 1 {
		t.Errorf("%v", err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, proto.ErrCorrupt }
