package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const benchSize = 64 << 20

// BenchmarkFetch moves a file of 64 MiB from one node to another and shows what
// the settings of this package cost and bring, beside a plain HTTP GET:
//
//	go test -run '^$' -bench Fetch -benchtime 2s ./peerfetch/peers
//
// cpu-s/GB is the CPU time of both ends together, cold-MB/s the rate of the first
// transfer of a connection.
func BenchmarkFetch(b *testing.B) {
	path := filepath.Join(b.TempDir(), "blob")
	data := content(benchSize)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	file := func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
		f, err := os.Open(path)
		return &proto.Blob{Ref: proto.Ref{Size: benchSize}, File: f}, err
	}
	memory := func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
		return &proto.Blob{Ref: proto.Ref{Size: benchSize}, Bytes: data}, nil
	}
	stream := func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
		return &proto.Blob{Ref: proto.Ref{Size: benchSize}, Stream: io.NopCloser(bytes.NewReader(data))}, nil
	}
	ca := newAuthority(b, "bench")

	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "tcp", true: "tls"}[secure]
		var tlsA, tlsB *TLS
		if secure {
			tlsA, tlsB = ca.node(b, "a"), ca.node(b, "b")
		}
		for carrier, h := range map[string]handlerFunc{"file": file, "memory": memory, "stream": stream} {
			b.Run(name+"/carrier="+carrier, func(b *testing.B) {
				benchFetch(b, benchPair(b, Config{}, tlsA, tlsB, nil, h), 1, false)
			})
		}
		b.Run(name+"/carrier=file/Read", func(b *testing.B) {
			benchFetch(b, benchPair(b, Config{}, tlsA, tlsB, nil, file), 1, true)
		})
		b.Run(name+"/carrier=file/parallel=8", func(b *testing.B) {
			benchFetch(b, benchPair(b, Config{}, tlsA, tlsB, nil, file), 8, false)
		})
		b.Run(name+"/http", func(b *testing.B) { benchHTTP(b, path, tlsA, tlsB) })
	}
	for _, chunk := range []int{16, 32, 64, 128, 256, 512} {
		b.Run(fmt.Sprintf("tcp/chunk=%dKiB", chunk), func(b *testing.B) {
			benchFetch(b, benchPair(b, Config{chunk: chunk<<10 - 5 - dataHeader}, nil, nil, nil, file), 1, false)
		})
	}
	b.Run("tcp/chunk=64KiB-unaligned", func(b *testing.B) {
		benchFetch(b, benchPair(b, Config{chunk: 64 << 10}, nil, nil, nil, file), 1, false)
	})
	for _, rtt := range []time.Duration{0, 100 * time.Millisecond} {
		for _, w := range []*windows{{}, {1 << 20, 4 << 20}, {4 << 20, 16 << 20}, {8 << 20, 32 << 20}, {16 << 20, 64 << 20}} {
			name := "bdp"
			if w.stream > 0 {
				name = fmt.Sprintf("%dKiB,%dKiB", w.stream>>10, w.conn>>10)
			}
			for _, parallel := range []int{1, 8} {
				b.Run(fmt.Sprintf("rtt=%v/window=%s/parallel=%d", rtt, name, parallel), func(b *testing.B) {
					n := newNetwork(link{delay: rtt / 2, buffer: 256 << 20})
					if rtt == 0 {
						n = nil
					}
					benchFetch(b, benchPair(b, Config{windows: w}, nil, nil, n, file), parallel, false)
				})
			}
		}
	}
}

// BenchmarkFetchSmall is what asking another node costs beside the bytes.
func BenchmarkFetchSmall(b *testing.B) {
	data := content(4 << 10)
	a := benchPair(b, Config{}, nil, nil, nil, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
		return &proto.Blob{Ref: proto.Ref{Size: int64(len(data))}, Bytes: data}, nil
	})
	b.ReportAllocs()
	for b.Loop() {
		tr, err := a.Fetch(b.Context(), "b", wantAll())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, tr.Body); err != nil {
			b.Fatal(err)
		}
		tr.Body.Close()
	}
}

// benchPair is a node a that may ask node b.
func benchPair(b *testing.B, cfg Config, tlsA, tlsB *TLS, n *network, h handlerFunc) *Mesh {
	ofA, ofB := cfg, cfg
	ofA.TLS, ofB.TLS = tlsA, tlsB
	ofB.Handler = h
	if n != nil {
		ofA.listen, ofA.Dial, ofA.Listen = n.listen, n.dial, "a:1"
		ofB.listen, ofB.Dial, ofB.Listen = n.listen, n.dial, "b:1"
	}
	meshA, meshB := newMesh(b, "a", ofA), newMesh(b, "b", ofB)
	acquaint(b, meshA, meshB)
	return meshA
}

// benchFetch moves the object b.N times, some at the same time.
func benchFetch(b *testing.B, a *Mesh, parallel int, read bool) {
	move := func() {
		tr, err := a.Fetch(b.Context(), "b", wantAll())
		if err != nil {
			b.Error(err)
			return
		}
		defer tr.Body.Close()
		dst := io.Writer(io.Discard)
		src := io.Reader(tr.Body)
		if read {
			dst, src = struct{ io.Writer }{dst}, struct{ io.Reader }{src}
		}
		if n, err := io.CopyBuffer(dst, src, make([]byte, 128<<10)); err != nil || n != benchSize {
			b.Errorf("%d bytes, %v", n, err)
		}
	}
	began := time.Now()
	move() // connects, and finds out about the connection
	cold := benchSize / 1e6 / time.Since(began).Seconds()
	b.SetBytes(int64(parallel) * benchSize)
	cpu := cpuTime()
	for b.Loop() {
		var running sync.WaitGroup
		for range parallel {
			running.Go(move)
		}
		running.Wait()
	}
	reportCPU(b, cpu, parallel)
	b.ReportMetric(cold, "cold-MB/s")
}

// benchHTTP moves the same file by net/http, which sends it with sendfile.
func benchHTTP(b *testing.B, path string, tlsA, tlsB *TLS) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	url := "http://" + l.Addr().String() + "/"
	transport := &http.Transport{ReadBufferSize: 32 << 10}
	defer transport.CloseIdleConnections()
	if tlsA != nil {
		cert, err := tlsB.Certificate()
		if err != nil {
			b.Fatal(err)
		}
		roots, err := tlsA.Roots()
		if err != nil {
			b.Fatal(err)
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}})
		url = "https" + url[len("http"):]
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "b"}
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })}
	go server.Serve(l)
	defer server.Close()
	client := &http.Client{Transport: transport}
	b.SetBytes(benchSize)
	cpu := cpuTime()
	for b.Loop() {
		res, err := client.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, res.Body, make([]byte, 128<<10)); err != nil || n != benchSize {
			b.Fatalf("%d bytes, %v", n, err)
		}
		res.Body.Close()
	}
	reportCPU(b, cpu, 1)
}

func reportCPU(b *testing.B, since time.Duration, parallel int) {
	gb := float64(b.N) * float64(parallel) * benchSize / 1e9
	b.ReportMetric((cpuTime()-since).Seconds()/gb, "cpu-s/GB")
	b.ReportMetric(0, "ns/op")
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
