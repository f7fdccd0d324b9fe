package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// result is how a download by many went.
type result struct {
	asked, good       int
	size              int64
	firstMedian, took time.Duration
	err               error // why one of them failed
}

// download has clients at nodes download a path and compare it with the archive's.
// meanwhile, if set, runs beside them.
func (d *demo) download(path string, perNode int, nodes []*lab.Node, meanwhile func()) result {
	want := d.archive.file(path)
	r := result{asked: perNode * len(nodes), size: int64(len(want))}
	firsts := make([]time.Duration, r.asked)
	errs := make([]error, r.asked)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: perNode}}
	defer client.CloseIdleConnections()
	began := time.Now()
	var all sync.WaitGroup
	for i := range r.asked {
		all.Go(func() { firsts[i], errs[i] = compare(d.ctx, client, nodes[i%len(nodes)].URL()+"/demo/"+path, want) })
	}
	if meanwhile != nil {
		meanwhile()
	}
	all.Wait()
	r.took = time.Since(began)
	for _, err := range errs {
		if err == nil {
			r.good++
		} else {
			r.err = err
		}
	}
	slices.Sort(firsts)
	r.firstMedian = firsts[len(firsts)/2]
	return r
}

// compare downloads a URL and compares it with what it should be. It returns after
// what time the first byte was there.
func compare(ctx context.Context, client *http.Client, url string, want []byte) (first time.Duration, err error) {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	w := &comparer{want: want, began: began}
	if _, err := w.ReadFrom(resp.Body); err != nil {
		return w.first, fmt.Errorf("%s: after %d of %d bytes: %w", url, w.at, len(want), err)
	}
	return w.first, nil
}

var errWrong = errors.New("the bytes are not the archive's")

// comparer holds a body against what it should be, piece by piece.
type comparer struct {
	want  []byte
	at    int
	began time.Time
	first time.Duration // when the first byte came
}

// ReadFrom implements io.ReaderFrom. A body that is too short is an error, too.
func (c *comparer) ReadFrom(r io.Reader) (int64, error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if c.at == 0 && n > 0 {
			c.first = time.Since(c.began)
		}
		if c.at+n > len(c.want) || !bytes.Equal(buf[:n], c.want[c.at:c.at+n]) {
			return int64(c.at), errWrong
		}
		c.at += n
		switch {
		case err == io.EOF && c.at == len(c.want):
			return int64(c.at), nil
		case err == io.EOF:
			return int64(c.at), io.ErrUnexpectedEOF
		case err != nil:
			return int64(c.at), err
		}
	}
}
