package origin

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"
)

func TestOrigin(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 30_000)
	modified := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	o, err := Start("127.0.0.1:0", map[string]File{"a/b": {Body: body, Modified: modified}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	// A link that is far too fast to notice takes the same path as a slow one.
	o.SetShape(Shape{BytesPerSecond: 1e9, PerConnection: 1e9, Latency: time.Microsecond})

	get := func(path string, header ...string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+o.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b
	}
	if status, b := get("/a/b"); status != 200 || !bytes.Equal(b, body) {
		t.Errorf("whole file: status %d, %d bytes", status, len(b))
	}
	if status, b := get("/a/b", "Range", "bytes=299990-"); status != 206 || string(b) != "0123456789" {
		t.Errorf("range: status %d, %q", status, b)
	}
	if status, _ := get("/a/b", "If-Modified-Since", modified.Format(http.TimeFormat)); status != 304 {
		t.Errorf("unchanged: status %d", status)
	}
	if status, _ := get("/a/c"); status != 404 {
		t.Errorf("missing: status %d", status)
	}
	c := o.Counts()
	if c.Requests["a/b"] != 3 || c.Total() != 4 || c.Ranges != 1 || c.Bytes < int64(len(body))+10 || c.PeakAtOnce != 1 || c.Connections < 1 {
		t.Errorf("counts %+v", c)
	}

	o.Reset()
	o.Spoil("a/b")
	_, b := get("/a/b")
	if len(b) != len(body) || bytes.Equal(b, body) {
		t.Errorf("spoiled: %d bytes, equal %v", len(b), bytes.Equal(b, body))
	}
	if c := o.Counts(); c.Total() != 1 {
		t.Errorf("after a reset: counts %+v", c)
	}
}
