package front

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// TestUnreadableFile: an object whose file the disk does not give goes on at that byte from wherever else
// it is, whole or in part.
func TestUnreadableFile(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, helloBytes[:20_000], 0o600); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.WriteFile(whole, helloBytes, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(name string) *os.File {
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
		}
		return f
	}
	ref := proto.Ref{Digest: proto.DigestOf(helloBytes), Size: int64(len(helloBytes))}
	for file, cause := range map[string]error{"/proc/self/mem": syscall.EIO, short: nil} {
		for kind, again := range map[string]func() *proto.Blob{
			"stream": func() *proto.Blob {
				return &proto.Blob{Ref: ref, Stream: &parted{bytes.NewReader(helloBytes), helloBytes}}
			},
			"file":  func() *proto.Blob { return &proto.Blob{Ref: ref, File: open(whole)} },
			"bytes": func() *proto.Blob { return &proto.Blob{Ref: ref, Bytes: helloBytes} },
			"other": func() *proto.Blob { return &proto.Blob{Ref: proto.Ref{Size: 5}, Bytes: []byte("other")} },
			"again": func() *proto.Blob { return &proto.Blob{Ref: ref, File: open(file)} },
			"none":  nil,
		} {
			t.Run(kind+" for "+filepath.Base(file), func(t *testing.T) {
				d := startFront(t)
				d.has(helloPath, helloBytes, "bytes")
				d.fetcher.open = func(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
					return &proto.Blob{Ref: ref, Verified: true, Tier: proto.TierDisk, Modified: testTime, File: open(file)}, nil
				}
				var reopened atomic.Int64
				if again != nil {
					d.fetcher.reopen = func(failed *proto.Blob, err error) (*proto.Blob, error) {
						reopened.Add(1)
						if failed.File == nil || cause != nil && !errors.Is(err, cause) {
							t.Errorf("%+v, %v", failed, err)
						}
						return again(), nil
					}
				}
				for _, c := range []struct{ from, to int }{{0, len(helloBytes)}, {1000, 40_000}} {
					header := "X: y"
					if c.from > 0 {
						header = "Range: bytes=1000-39999"
					}
					got, err := d.rawErr("GET " + helloURL + " HTTP/1.1\nHost: n\nConnection: close\n" + header + "\n\n")
					_, body, _ := strings.Cut(got, "\r\n\r\n")
					right := body == string(helloBytes[c.from:c.to])
					if good := kind == "stream" || kind == "file" || kind == "bytes"; right != good {
						t.Errorf("%d to %d: %d bytes, %v", c.from, c.to, len(body), err)
					}
				}
				if again != nil && reopened.Load() != 2 {
					t.Errorf("opened again %d times", reopened.Load())
				}
			})
		}
	}
}
