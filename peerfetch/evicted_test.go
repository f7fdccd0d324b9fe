package peerfetch

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// On a disk that is too small an object may be evicted as soon as it is committed. A reader that has not
// opened the file by then gets all of it.
func TestEvictedBeforeTheReaderOpensIt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(300_000, 3)
		w := newWorld(t, func(int, proto.Request) answer {
			return answer{body: bytes.NewReader(content), size: int64(len(content))}
		})
		blob, err := w.Open(context.Background(), wantOf(content, "pool/x.deb"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the object is committed
		w.store.remove(wantOf(content, "pool/x.deb").Ref.Digest)
		files, err := filepath.Glob(filepath.Join(w.store.dir, "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, name := range files {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := io.ReadAll(blob.Reader()); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		blob.Close()
		w.Close()
	})
}
