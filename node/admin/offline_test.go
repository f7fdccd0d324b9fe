package admin

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// Files of snapshots go out and in through the socket that the node names, though the client only knows its TCP address, and
// every way to fail arrives as the sentence of the node.
func TestOffline(t *testing.T) {
	s, f := listenAt(t, func(*Config) {})
	c, err := NewClient(s.Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var files []SnapshotFile
	head, end, err := c.SnapshotFiles(ctx, "w48", ExportOrder{}, func(f *SnapshotFile) error { files = append(files, *f); return nil })
	if err != nil || head.Name != "w48" || string(head.Record) != "{}" || end.Unstored != 7 || len(files) != 1 || files[0].Paths[0] != "r" {
		t.Fatalf("%+v, %+v, %+v, %v", head, end, files, err)
	}
	none := func(*SnapshotFile) error { return nil }
	if _, end, err := c.SnapshotFiles(ctx, "w48", ExportOrder{true, true}, none); err != nil || end.Unstored != 0 {
		t.Errorf("all: %+v, %v", end, err)
	}
	for name, said := range map[string]string{"none": "there is no such snapshot", "breaks": "a disk failed"} {
		if _, _, err := c.SnapshotFiles(ctx, name, ExportOrder{}, none); err == nil || err.Error() != said {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := c.SnapshotFiles(ctx, "w48", ExportOrder{}, func(*SnapshotFile) error { return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("an error of the caller is %v", err)
	}
	body, modified, err := c.SnapshotFile(ctx, "w48", files[0].Named())
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(body); err != nil || string(data) != "bytes" || modified.Unix() != 1e9 {
		t.Errorf("%q of %v, %v", data, modified, err)
	}
	body.Close()
	gone := files[0].Named()
	gone.Path = "gone"
	if _, _, err := c.SnapshotFile(ctx, "w48", gone); err == nil || err.Error() != "upstream has it no more" {
		t.Errorf("a file that is gone: %v", err)
	}

	data := []byte("bytes")
	begun, err := c.BeginImport(ctx, []byte("{}"), map[proto.Digest][]byte{proto.DigestOf(data): data})
	if err != nil || begun.Import != proto.DigestOf([]byte("{}")) {
		t.Fatalf("%+v, %v", begun, err)
	}
	var said *Error
	if _, err := c.BeginImport(ctx, []byte("{}"), nil); !errors.As(err, &said) || !said.Refused {
		t.Errorf("what is refused is %v", err)
	}
	if lacking, err := c.LackingFiles(ctx, begun.Import, []NamedFile{gone, gone}); err != nil || len(lacking) != 1 || lacking[0] != 1 {
		t.Errorf("lacking %v, %v", lacking, err)
	}
	if err := c.ImportFile(ctx, begun.Import, files[0].Named(), bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
	// A body that nobody reads: the answer must come all the same.
	long := NamedFile{Archive: "a", Path: "refused", SHA256: proto.DigestOf(data), Size: 8 << 20}
	if err := c.ImportFile(ctx, begun.Import, long, io.LimitReader(zeros{}, long.Size)); !errors.As(err, &said) || said.Message != "nothing lists it" {
		t.Errorf("a file that nothing lists: %v", err)
	}
	if r, err := c.FinishImport(ctx, begun.Import, "w48", "op"); err != nil || r.Name != "w48" || r.By != "op" {
		t.Errorf("%+v, %v", r, err)
	}
	// What is not privileged does nothing of it, and learns nothing of files.
	changes := f.changes
	for _, path := range []string{"/v1/snapshots/files?name=w48", "/v1/snapshots/file?name=w48&archive=a&path=r&sha256=" + proto.DigestOf(data).String() + "&size=5", "/v1/imports"} {
		if status, body := ask(t, s.Addr(), "POST", path); status != 403 || !strings.Contains(body, "unix socket") {
			t.Errorf("%s over TCP: %d %s", path, status, body)
		}
		if status, _ := ask(t, s.Addr(), "GET", path); status != 405 && status != 404 {
			t.Errorf("GET %s over TCP: %d", path, status)
		}
	}
	if f.changes != changes {
		t.Error("something was changed over TCP")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
