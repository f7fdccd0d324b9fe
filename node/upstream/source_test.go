package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/sourcetest"
)

// An archive behind HTTP is a source as flights need one.
func TestSource(t *testing.T) {
	source := func(c *Client) sourcetest.Source {
		return sourcetest.Source{Open: func(ctx context.Context, offset int64) (*proto.Transfer, error) {
			req := get("pool/x.deb")
			req.Provable, req.Offset = true, offset
			req.Class = proto.ClassMetadata // which may have all slots
			return c.Fetch(ctx, req)
		}}
	}
	fewSlots := func(cfg *Config) { cfg.ConnectionsPerHost = sourcetest.Places }
	t.Run("loopback", func(t *testing.T) {
		sourcetest.Run(t, func(t *testing.T, s *sourcetest.Server) sourcetest.Source {
			return source(client(t, serve(t, httpOf(s)).URL, fewSlots, func(cfg *Config) {
				cfg.HeaderTimeout, cfg.StallTimeout = time.Hour, time.Hour // this machine may be busy
			}))
		})
	})
	t.Run("in memory", func(t *testing.T) {
		sourcetest.RunInBubble(t, func(t *testing.T, s *sourcetest.Server) sourcetest.Source {
			c, _ := inMemory(t, httpOf(s), fewSlots)
			src := source(c)
			src.Patience = max(headerTimeout, stallTimeout)
			return src
		})
	})
}

// httpOf gives what s has over HTTP.
func httpOf(s *sourcetest.Server) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var offset int64
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &offset)
		b, err := s.Answer(r.Context(), offset)
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		defer b.Close()
		head, status := w.Header(), http.StatusOK
		size := fmt.Sprint(b.Size)
		if s.Untold {
			size = "*"
		} else {
			head.Set("Content-Length", fmt.Sprint(b.Left))
		}
		switch {
		case offset > 0 && b.Offset >= int64(len(s.Content)):
			head.Del("Content-Length")
			head.Set("Content-Range", "bytes */"+size)
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		case b.Offset > 0:
			head.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%s", b.Offset, b.Offset+b.Left-1, size))
			status = http.StatusPartialContent
		}
		if s.Fault == sourcetest.Long { // net/http would not send it
			sendRaw(w, status, b)
			return
		}
		w.WriteHeader(status)
		if err := sendAll(w, b); err == sourcetest.ErrBroken {
			panic(http.ErrAbortHandler)
		}
	}
}

// sendAll sends each piece of a body as it comes.
func sendAll(w http.ResponseWriter, b io.Reader) error {
	flush := http.NewResponseController(w)
	buf := make([]byte, 16<<10)
	for {
		if err := flush.Flush(); err != nil {
			return err
		}
		n, err := b.Read(buf)
		if _, failed := w.Write(buf[:n]); failed != nil {
			return failed
		}
		if err != nil {
			return err
		}
	}
}

// sendRaw sends a body that does not keep to its Content-Length.
func sendRaw(w http.ResponseWriter, status int, b io.Reader) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	var head strings.Builder
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	w.Header().Write(&head)
	io.Copy(conn, io.MultiReader(strings.NewReader(head.String()+"\r\n"), b))
}
