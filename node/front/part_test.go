package front

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// parted is a stream of which parts can be had.
type parted struct {
	*bytes.Reader
	content []byte
}

func (p *parted) Part(from, length int64) {
	p.Reader = bytes.NewReader(p.content[from:min(from+length, int64(len(p.content)))])
}

func (p *parted) Close() error { return nil }

// TestRangeOfARunningStream: a client that asks for a part without a validator has it, one that names
// a validator only if that is the very object, and none where bytes were wrong a while ago.
func TestRangeOfARunningStream(t *testing.T) {
	digest := proto.DigestOf(helloBytes)
	claimed := testTime.Format(http.TimeFormat)
	for name, c := range map[string]struct {
		header   []string
		unlisted bool
		doubted  bool
		size     int64 // of the entry and the blob; 0: the true one
		status   int
		from, to int
	}{
		"bare":                        {header: []string{"Range: bytes=1000-"}, status: 206, from: 1000, to: 65536},
		"middle":                      {header: []string{"Range: bytes=1000-1999"}, status: 206, from: 1000, to: 2000},
		"suffix":                      {header: []string{"Range: bytes=-10"}, status: 206, from: 65526, to: 65536},
		"beyond":                      {header: []string{"Range: bytes=65536-"}, status: 416},
		"none":                        {status: 200, to: 65536},
		"several, doubted":            {header: []string{"Range: bytes=0-1,5-6"}, doubted: true, status: 200, to: 65536},
		"doubted":                     {header: []string{"Range: bytes=1000-"}, doubted: true, status: 200, to: 65536},
		"the object's own tag":        {header: []string{"Range: bytes=1000-", `If-Range: "` + digest.String() + `"`}, status: 206, from: 1000, to: 65536},
		"another tag":                 {header: []string{"Range: bytes=1000-", `If-Range: "` + proto.DigestOf(nil).String() + `"`}, status: 200, to: 65536},
		"a date, as apt has it":       {header: []string{"Range: bytes=1000-", "If-Range: " + claimed}, status: 200, to: 65536},
		"unlisted, upstream's date":   {header: []string{"Range: bytes=1000-", "If-Range: " + claimed}, unlisted: true, status: 206, from: 1000, to: 65536},
		"unlisted, another date":      {header: []string{"Range: bytes=1000-", "If-Range: Mon, 02 Jan 2006 15:04:05 GMT"}, unlisted: true, status: 200, to: 65536},
		"unlisted, bare":              {header: []string{"Range: bytes=1000-"}, unlisted: true, status: 206, from: 1000, to: 65536},
		"nobody knows how long it is": {header: []string{"Range: bytes=1000-"}, unlisted: true, size: proto.UnknownSize, status: 200, to: 65536},
	} {
		t.Run(name, func(t *testing.T) {
			d := startFront(t)
			loc := proto.Location{Archive: "ubuntu", Path: helloPath}
			ref := proto.Ref{Digest: digest, Size: int64(len(helloBytes))}
			if c.size != 0 {
				ref.Size = c.size
			}
			entry := proto.Resolution{Object: proto.ObjectRequest{Ref: ref, Where: proto.At(loc)}, Listed: !c.unlisted}
			blob := proto.Blob{Ref: ref, Verified: !c.unlisted, Tier: proto.TierUpstream, Doubted: c.doubted}
			if c.unlisted {
				entry.Object.Ref = proto.Ref{Size: proto.UnknownSize}
				blob.Ref.Digest, blob.Claimed = proto.Digest{}, testTime
			}
			d.catalog.entries[loc] = entry
			d.fetcher.open = func(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
				b := blob
				b.Stream = &parted{bytes.NewReader(helloBytes), helloBytes}
				return &b, nil
			}
			r, body := d.ask("GET", helloURL, c.header...)
			if r.StatusCode != c.status || c.status < 300 && body != string(helloBytes[c.from:c.to]) {
				t.Errorf("%s, %s, %d bytes", r.Status, r.Header.Get("Content-Range"), len(body))
			}
			if r.Header.Get("Etag") != "" || r.Header.Get("Last-Modified") != "" {
				t.Errorf("a validator for bytes that are not proven: %v", r.Header)
			}
			if want := map[int]string{206: "bytes", 416: "bytes"}[c.status]; want != "" && r.Header.Get("Content-Range")[:len(want)] != want {
				t.Errorf("Content-Range: %q", r.Header.Get("Content-Range"))
			}
		})
	}
}

// Where clients drop what they have at a 416, the rest of doubtful bytes is refused; nothing else is.
func TestRestOfDoubtfulBytes(t *testing.T) {
	tag := `"` + proto.DigestOf(helloBytes).String() + `"`
	for _, c := range []struct {
		ranges, ifRange string
		doubted, drops  bool
		want            int
	}{
		{"bytes=1000-", "", true, true, 416},
		{"bytes=1000-", "", true, false, 200},
		{"bytes=1000-", "", false, true, 206},
		{"bytes=1000-", tag, true, true, 200},
		{"bytes=0-", "", true, true, 200},
		{"bytes=0-1,5-6", "", true, true, 200},
		{"", "", true, true, 200},
	} {
		s := &subject{info: &proto.PathInfo{DropsAt416: c.drops}, doubted: c.doubted, whole: c.doubted,
			ref: proto.Ref{Digest: proto.DigestOf(helloBytes), Size: int64(len(helloBytes))}}
		if got := decide(&conditions{ranges: c.ranges, ifRange: c.ifRange}, s.object()).status; got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

var _ io.WriterTo = (*parted)(nil)
