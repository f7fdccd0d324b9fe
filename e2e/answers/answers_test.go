package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Trials at each place with this machine's apt, without retries: refused for good, and
// refused for a while.
func TestTrials(t *testing.T) {
	local, err := localApt(t.Context())
	if err != nil {
		t.Skip(err)
	}
	archive := newArchive()
	for _, p := range places {
		for _, status := range []int{http.StatusForbidden, http.StatusServiceUnavailable} {
			tr := trial{local, p, answer{status: status, phrase: "a sentence"}, false, 0}
			o, err := tr.run(t.Context(), archive, 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if o.hung || o.requests == 0 || !strings.Contains(o.screen, fmt.Sprintf("%d  a sentence", status)) {
				t.Errorf("%s, %d: %+v", p, status, o)
			}
			if status == http.StatusForbidden && o.exit != 100 {
				t.Errorf("%s: a final status ends with %d", p, o.exit)
			}
		}
	}
}

// The server answers pipelined requests in their order, and fails where it is told to.
func TestServer(t *testing.T) {
	s, err := newServer(newArchive(), answer{status: 403, phrase: "no", retryAfter: 2}, placeRoot.fails)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	conn, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := map[string]string{"/dists/bad/InRelease": "403 no", "/dists/good/InRelease": "200 OK", "/none": "404 Not Found"}
	paths := []string{"/dists/good/InRelease", "/dists/bad/InRelease", "/none", "/dists/good/InRelease"}
	for _, path := range paths {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: n\r\n\r\n", path)
	}
	in := bufio.NewReader(conn)
	for _, path := range paths {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(r.Body); r.Status != want[path] || err != nil || len(body) == 0 {
			t.Errorf("%s: %s, %d bytes, %v", path, r.Status, len(body), err)
		}
		if path == "/dists/bad/InRelease" && r.Header.Get("Retry-After") != "2" {
			t.Errorf("%v", r.Header)
		}
	}
	if n := s.count(placeRoot.fails); n != 1 {
		t.Errorf("%d requests were counted", n)
	}
}

func TestRows(t *testing.T) {
	old, late := apt{version: "1", from: "a"}, apt{version: "2", from: "b"}
	made := func(a apt, status, exit int, proxied, hung bool) result {
		return result{trial{a, placeRoot, answer{status: status}, proxied, 3}, outcome{exit: exit, requests: 1, hung: hung}}
	}
	got := rows([]result{
		made(old, 400, 100, false, false), made(old, 400, 100, true, false), made(late, 400, 100, false, false),
		made(old, 503, 0, false, true), made(old, 503, 0, true, false), made(late, 503, 0, false, false),
		made(old, 403, 100, false, false), made(old, 403, 100, true, false), made(late, 403, 100, false, false),
	}, variant{placeRoot, 3}, []apt{old, late})
	want := "[{[400 403] [exit 100 exit 100]} {[503] [**hangs**; by proxy exit 0 exit 0]}]"
	if fmt.Sprint(got) != want {
		t.Errorf("%v\nwant %v", got, want)
	}
}
