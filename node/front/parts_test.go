package front

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// threeParts are parts in no order, and what a client has to get for them.
const threeParts = "Range: bytes=40000-40009,0-9,65530-"

func partsWanted() []string {
	var want []string
	for _, p := range []part{{40000, 10}, {0, 10}, {65530, 6}} {
		want = append(want, fmt.Sprintf("bytes %d-%d/65536 %s", p.from, p.from+p.length-1, helloBytes[p.from:p.from+p.length]))
	}
	return want
}

// TestSeveralParts: whatever carries the object, a client gets the parts that it asks for, each with
// its place, in the order in which it asks.
func TestSeveralParts(t *testing.T) {
	for _, kind := range []string{"bytes", "file", "flight"} {
		t.Run(kind, func(t *testing.T) {
			d := startFront(t)
			d.has(helloPath, helloBytes, kind)
			if kind == "flight" {
				d.streams(int64(len(helloBytes)), &parted{bytes.NewReader(helloBytes), helloBytes})
			}
			r, body := d.ask("GET", helloURL, threeParts)
			if r.StatusCode != http.StatusPartialContent || r.Header.Get("Content-Length") != strconv.Itoa(len(body)) || r.Header.Get("Content-Range") != "" {
				t.Fatalf("%s: %v, %d bytes", r.Status, r.Header, len(body))
			}
			if (r.Header.Get("Etag") != "") != (kind != "flight") {
				t.Errorf("validators: %v", r.Header)
			}
			if got, want := partsOf(t, r.Header.Get("Content-Type"), strings.NewReader(body)), partsWanted(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%q\nwant %q", got, want)
			}
			if typed := strings.Count(body, "\r\nContent-Type: application/vnd.debian.binary-package\r\n"); typed != 3 {
				t.Errorf("%d parts say what they are: %q", typed, body)
			}
		})
	}
}

// TestPartsForZchunk reads an answer as librepo and zchunk do (downloader.c, multipart.c): with regular
// expressions into which the boundary is put as it is.
func TestPartsForZchunk(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes, "file")
	raw := d.raw("GET " + helloURL + " HTTP/1.1\nHost: n\nConnection: close\n" + threeParts + "\n\n")
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	m := regexp.MustCompile(`(?i)boundary *= *(.*?) *\r`).FindStringSubmatch(head)
	if m == nil || !regexp.MustCompile(`^[0-9A-Za-z]{16,70}$`).MatchString(m[1]) {
		t.Fatalf("no boundary that zchunk can use: %s", head)
	}
	next := regexp.MustCompile(`(?is)^\r?\n?--` + m[1] + `\r\n.*?content-range: *bytes *([0-9]+) *- *([0-9]+) */[0-9]+\r\n\r\n`)
	var got []string
	for {
		at := next.FindStringSubmatchIndex(body)
		if at == nil {
			break
		}
		from, _ := strconv.Atoi(body[at[2]:at[3]])
		last, _ := strconv.Atoi(body[at[4]:at[5]])
		length := last - from + 1
		got = append(got, fmt.Sprintf("bytes %d-%d/65536 %s", from, last, body[at[1]:at[1]+length]))
		body = body[at[1]+length:]
	}
	if fmt.Sprint(got) != fmt.Sprint(partsWanted()) || body != "\r\n--"+m[1]+"--\r\n" {
		t.Errorf("%q and then %q", got, body)
	}
}

// TestManyParts: as many parts as zckdl may ask for fit into one request and one connection goes on after them.
func TestManyParts(t *testing.T) {
	d := startFront(t)
	for _, kind := range []string{"bytes", "file"} {
		d.has(helloPath, helloBytes, kind)
		var specs []string
		for i := range maxParts {
			specs = append(specs, fmt.Sprintf("%022d-%022d", 64*i, 64*i+62))
		}
		ask := "GET " + helloURL + " HTTP/1.1\nHost: n\nRange: bytes="
		long := ask + strings.Join(specs[:512], ", ") + "\n\n"
		short := ask + strings.ReplaceAll(strings.Join(specs, ","), "00000000000", "") + "\nConnection: close\n\n"
		raw := d.raw(long + short)
		if n := strings.Count(raw, "HTTP/1.1 206 Partial Content\r\n"); n != 2 || strings.Count(raw, "\r\nContent-Range: ") != 512+maxParts {
			t.Errorf("%s: %d answers, %d parts", kind, n, strings.Count(raw, "\r\nContent-Range: "))
		}
	}
}

// TestPartsOfABrokenFile: a part that cannot be read from the disk goes on from elsewhere at its own byte.
func TestPartsOfABrokenFile(t *testing.T) {
	for _, elsewhere := range []string{"bytes", "file", "flight", "nowhere"} {
		t.Run(elsewhere, func(t *testing.T) {
			d := startFront(t)
			d.has(helloPath, helloBytes, "file")
			open := d.fetcher.open
			d.fetcher.open = func(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
				b, err := open(ctx, want)
				if err == nil {
					err = os.Truncate(b.File.Name(), 40004)
				}
				return b, err
			}
			var reopened atomic.Int32
			d.fetcher.reopen = func(failed *proto.Blob, _ error) (*proto.Blob, error) {
				reopened.Add(1)
				b := &proto.Blob{Ref: failed.Ref, Tier: proto.TierPeer}
				switch elsewhere {
				case "bytes":
					b.Bytes = helloBytes
				case "file":
					name := t.TempDir() + "/whole"
					if err := os.WriteFile(name, helloBytes, 0o600); err != nil {
						return nil, err
					}
					var err error
					b.File, err = os.Open(name)
					return b, err
				case "flight":
					b.Stream = &parted{bytes.NewReader(helloBytes), helloBytes}
				case "nowhere":
					return nil, errors.New("nobody has it")
				}
				return b, nil
			}
			raw, _ := d.rawErr("GET " + helloURL + " HTTP/1.1\nHost: n\nConnection: close\n" + threeParts + "\n\n")
			head, body, _ := strings.Cut(raw, "\r\n\r\n")
			if elsewhere == "nowhere" {
				if reopened.Load() != 1 || strings.Contains(raw, "0-9/") || strings.Contains(raw, "--\r\n") {
					t.Errorf("it was not cut off where the file ends: %q", raw)
				}
				return
			}
			_, boundary, _ := strings.Cut(head, "boundary=")
			boundary, _, _ = strings.Cut(boundary, "\r")
			if got := partsOf(t, typeParts+boundary, strings.NewReader(body)); fmt.Sprint(got) != fmt.Sprint(partsWanted()) || reopened.Load() != 2 {
				t.Errorf("%q, reopened %d times", got, reopened.Load())
			}
		})
	}
}

// TestPartsOfABrokenStream: a stream that fails, or gives more than a part, ends the connection before anything
// looks like the end of the body.
func TestPartsOfABrokenStream(t *testing.T) {
	for name, tt := range map[string]struct {
		second string
		err    error
		sent   string // of the second part, with its head
	}{
		"too little": {"012", nil, "bytes 0-9/65536\r\n\r\n012"},
		"too much":   {"0123456789x", nil, ""},
		"fails":      {"012", proto.ErrCorrupt, "bytes 0-9/65536\r\n\r\n012"},
	} {
		t.Run(name, func(t *testing.T) {
			d := startFront(t)
			d.streams(int64(len(helloBytes)), &badParts{give: []string{"0123456789", tt.second, "012345"}, err: tt.err})
			raw, _ := d.rawErr("GET " + helloURL + " HTTP/1.1\nHost: n\n" + threeParts + "\n\n")
			_, rest, _ := strings.Cut(raw, "Content-Range: bytes 40000-40009/65536\r\n\r\n0123456789")
			if _, sent, _ := strings.Cut(rest, "Content-Range: "); !strings.HasPrefix(raw, "HTTP/1.1 206 ") || sent != tt.sent || sent == "" && rest != "" {
				t.Errorf("%s", raw)
			}
		})
	}
}

// badParts is a stream that gives this for one part after the other.
type badParts struct {
	*strings.Reader
	give []string
	next int
	err  error
}

func (b *badParts) Part(int64, int64) {
	b.Reader = strings.NewReader(b.give[b.next])
	b.next++
}

func (b *badParts) WriteTo(w io.Writer) (int64, error) {
	n, err := b.Reader.WriteTo(w)
	if err == nil && b.next == 2 {
		err = b.err
	}
	return n, err
}

func (b *badParts) Close() error { return nil }
