package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Client downloads as a package manager does, as far as a server can tell: it goes on with what it has,
// tries again where the package manager would, and never sends an ETag. Where that gives up, it gives up. The
// zero value is apt; it is safe for concurrent use if HTTP is.
type Client struct {
	As   Manner
	HTTP *http.Client // nil: one for loopback, without any proxy
	// Wait is called before each further try, the second one having number 2, with
	// what the server said about it; nil waits as the package manager does.
	Wait func(ctx context.Context, try int, retryAfter time.Duration)
	// Patience is how long a transfer may stand still; 0 is apt's and librepo's 30 s.
	Patience time.Duration
}

// Manner is the package manager that a Client is like.
type Manner int

const (
	// AsApt is apt's http method: three retries with pauses, Range with If-Range. A status that does not pass, an
	// answer of another size than the index has, and wrong bytes are final.
	AsApt Manner = iota
	// AsDnf is librepo (downloader.c): four tries at one address, at once. Whatever fails is tried again, and from
	// the beginning. What an earlier run left is gone on with once, by Range alone.
	AsDnf
	// AsPacman is libalpm (dload.c): one try at one server. Its user runs it again, three times here. It goes on with
	// what the run before left, by Range alone; an answer that is not that range fails. A file that is there and wrong is deleted.
	AsPacman
)

func (m Manner) String() string { return [...]string{"apt", "dnf", "pacman"}[m] }

// agent is how it introduces itself.
func (m Manner) agent() string {
	return [...]string{"Debian APT-HTTP/1.3 (2.6.1)", "libdnf (Debian GNU/Linux 12; generic; Linux.x86_64)", "pacman/6.0.2 (Linux x86_64) libalpm/13.0.2"}[m]
}

// Order is what a client wants and what it has of it.
type Order struct {
	URL  string
	Size int64                  // 0: not known beforehand
	Good func(body []byte) bool // nil: anything is
	// Has is the beginning of the file, from an earlier attempt, and Modified the
	// Last-Modified that came with it. With nothing in Has, Modified is sent as
	// If-Modified-Since.
	Has      []byte
	Modified string
}

// Try is one request and how it ended.
type Try struct {
	Status int    // 0: no answer
	Text   string // of an answer that is no file
	Header http.Header
	Err    error // what broke the transfer
	First  time.Duration
}

// Download is how an order ended.
type Download struct {
	Tries    []Try
	Body     []byte // complete; nil if it was not had
	Modified string
	Same     bool // 304: what the client has is current
	// Wrong says that a complete body was not good: the one thing that must never be.
	Wrong bool
	Took  time.Duration
}

// Done reports whether the client has what it wanted.
func (d Download) Done() bool { return !d.Wrong && (d.Same || d.Body != nil) }

// Last is the last try.
func (d Download) Last() Try { return d.Tries[len(d.Tries)-1] }

// Why tells how a download failed, in a few words.
func (d Download) Why() string {
	t := d.Last()
	switch {
	case d.Wrong:
		return "complete wrong body"
	case t.Err != nil && t.Status == 0:
		return "no answer"
	case t.Err != nil:
		return "broken off"
	default:
		return fmt.Sprintf("%d", t.Status)
	}
}

// retries is Acquire::Retries of apt, one less than allowed_mirror_failures of librepo, and the patience of a user of
// pacman.
const retries = 3

// errSize is apt's "File has unexpected size": it does not try again.
var errSize = errors.New("the server announces another size than the index")

// Get downloads, with three retries.
func (c *Client) Get(ctx context.Context, o Order) Download {
	began := time.Now()
	var d Download
	for try := 1; ; try++ {
		t, again := c.try(ctx, &o, &d)
		d.Tries = append(d.Tries, t)
		if !again || try > retries || ctx.Err() != nil {
			d.Took = time.Since(began)
			return d
		}
		wait := c.Wait
		switch {
		case wait != nil:
		case c.As == AsApt:
			wait = asApt
		default:
			wait = func(context.Context, int, time.Duration) {}
		}
		after, _ := strconv.Atoi(t.Header.Get("Retry-After"))
		wait(ctx, try+1, time.Duration(after)*time.Second)
	}
}

// asApt waits 1, 2, 4 seconds, or as long as the server says, but no longer than 30.
func asApt(ctx context.Context, try int, retryAfter time.Duration) {
	wait := max(time.Second<<(try-2), min(retryAfter, 30*time.Second))
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// direct is for talking to loopback, whatever proxy this machine uses.
var direct = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// try is one request. It reports whether apt would ask again, and leaves in o what
// the client holds by then.
func (c *Client) try(ctx context.Context, o *Order, d *Download) (t Try, again bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := c.Patience
	if patience == 0 {
		patience = 30 * time.Second
	}
	watch := time.AfterFunc(patience, func() { cancel(errors.New("nothing came for too long")) })
	defer watch.Stop()

	asked := time.Now()
	resp, err := c.ask(ctx, *o)
	if err != nil {
		return Try{Err: err}, true
	}
	defer resp.Body.Close()
	t = Try{Status: resp.StatusCode, Header: resp.Header, First: time.Since(asked)}
	switch resp.StatusCode {
	case http.StatusNotModified:
		d.Same, d.Modified = true, o.Modified
		return t, false
	case http.StatusOK:
		if len(o.Has) > 0 && c.As != AsApt { // curl's error 33
			t.Err = errors.New("the server does not go on where the file ends")
			if c.As == AsDnf { // pacman leaves the file for its next run
				o.Has = nil
			}
			return t, true
		}
		o.Has = nil
	case http.StatusPartialContent:
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", len(o.Has))) {
			t.Err = fmt.Errorf("a range that nobody asked for: %s", resp.Header.Get("Content-Range"))
			return t, false
		}
	case http.StatusRequestedRangeNotSatisfiable:
		o.Has = nil
		return t, true
	default:
		text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		t.Text, t.Err = strings.TrimSpace(string(text)), err
		if c.As != AsApt {
			return t, true
		}
		// Without a body apt takes any error for final.
		return t, err != nil || transient(resp.StatusCode) && t.Text != ""
	}
	if o.Size > 0 && resp.ContentLength >= 0 && int64(len(o.Has))+resp.ContentLength != o.Size {
		t.Err = errSize
		return t, c.As != AsApt
	}
	o.Modified = resp.Header.Get("Last-Modified")
	began := len(o.Has)
	var body bytes.Buffer
	body.Write(o.Has)
	_, t.Err = io.Copy(&body, readerFunc(func(p []byte) (int, error) {
		n, err := resp.Body.Read(p)
		watch.Reset(patience)
		return n, err
	}))
	o.Has = body.Bytes()
	if t.Err != nil {
		if c.As == AsDnf {
			o.Has = nil
		}
		return t, true
	}
	if o.Good != nil && !o.Good(o.Has) {
		if began > 0 && c.As == AsPacman { // the beginning is of an earlier run
			t.Err, o.Has, o.Modified = errors.New("what was begun is not the file"), nil, ""
			return t, true
		}
		d.Wrong = true
		return t, false // Hash Sum mismatch: apt does not ask again
	}
	d.Body, d.Modified = o.Has, o.Modified
	return t, false
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// transient are the statuses after which apt asks again.
func transient(status int) bool {
	switch status {
	case 408, 429, 500, 502, 503, 504, 599:
		return true
	}
	return false
}

func (c *Client) ask(ctx context.Context, o Order) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.As.agent())
	switch {
	case len(o.Has) > 0 && c.As != AsApt:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(o.Has)))
	case len(o.Has) > 0:
		date := o.Modified
		if date == "" {
			date = time.Now().UTC().Format(http.TimeFormat) // what apt takes its own copy's date from
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(o.Has)))
		req.Header.Set("If-Range", date)
	case o.Modified != "" && c.As != AsDnf:
		req.Header.Set("If-Modified-Since", o.Modified)
	}
	client := c.HTTP
	if client == nil {
		client = direct
	}
	return client.Do(req)
}
