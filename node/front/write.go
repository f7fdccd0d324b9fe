package front

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// pace is how much of a body goes out between two looks at the clock, in bytes.
const pace = 1 << 20

// send writes an answer about an object.
func (x *exchange) send(a *answer, blob *proto.Blob) {
	switch {
	case a.text != "":
		x.sendText(a)
	case a.status == http.StatusNotModified || x.r.Method == http.MethodHead:
		x.begin(a)
	case blob.File != nil:
		x.sendFile(a, blob)
	case blob.Stream != nil:
		x.sendStream(a, blob)
	default:
		x.sendMemory(a, blob)
	}
}

// begin hands the head of the answer to net/http.
func (x *exchange) begin(a *answer) {
	x.begun = true
	x.status, x.note = a.status, a.note
	a.fill(x.w.Header(), x.f.cfg.Node)
	x.say(a.phrase)
	x.w.WriteHeader(a.status)
	x.firstByte = time.Since(x.began)
	x.arm(x.began)
	if x.f.cfg.Served != nil {
		x.tellServed()
	}
}

// tellServed passes on that a client uses this package.
func (x *exchange) tellServed() {
	switch x.status {
	case http.StatusOK, http.StatusPartialContent, http.StatusNotModified:
		if x.info.Package && x.note.listed && x.r.Method == http.MethodGet {
			x.f.cfg.Served(x.loc)
		}
	}
}

// sendText writes an answer whose body is its text.
func (x *exchange) sendText(a *answer) {
	if a.note.reason != "" {
		x.said = strings.TrimSuffix(a.text, "\n")
	}
	x.begin(a)
	if x.r.Method == http.MethodHead {
		return
	}
	n, err := io.WriteString(x.w, a.text)
	x.sent += int64(n)
	if err != nil {
		x.abort(reasonClient, err)
	}
}

func (x *exchange) sendBytes(b []byte) {
	for len(b) > 0 {
		size, err := x.turn(int64(len(b)))
		if err != nil {
			x.abort(reasonClient, err)
		}
		if x.sent > 0 {
			x.armNow()
		}
		n, err := x.w.Write(b[:size])
		x.sent += int64(n)
		if err != nil {
			x.abort(reasonClient, err)
		}
		b = b[n:]
	}
}

func (x *exchange) sendMemory(a *answer, blob *proto.Blob) {
	x.begin(a)
	for i := range a.pieces() {
		head, p := a.piece(i)
		x.sendBytes(head)
		x.sendBytes(blob.Bytes[p.from : p.from+p.length])
	}
	x.sendBytes(a.end())
}

// sendFile writes the parts of a file.
func (x *exchange) sendFile(a *answer, blob *proto.Blob) {
	x.begin(a)
	at := int64(0) // where the file stands
	for i := range a.pieces() {
		head, p := a.piece(i)
		x.sendBytes(head)
		to := io.Writer(x.w)
		if head != nil && p.length < smallPart {
			to = struct{ io.Writer }{x.w} // hides its ReadFrom
		}
		if rest, err := x.copyFile(to, blob.File, at, p); err != nil {
			x.sendRest(a, rest, blob, err)
		}
		at = p.from + p.length
	}
	x.sendBytes(a.end())
}

// smallPart is the length below which one of several parts goes through net/http's buffer. With
// sendfile each costs system calls of its own: 1,024 parts of 100 bytes took 23 ms of processor
// time, and take 9 ms.
const smallPart = 32 << 10

// copyFile sends a part of a file that stands at a given byte. net/http passes it on to sendfile(2) as long
// as what it is given is a file, or a bare io.LimitedReader of one. An error is that of the file, and rest
// is what was not sent.
func (x *exchange) copyFile(to io.Writer, file *os.File, at int64, p part) (rest part, err error) {
	if at != p.from {
		if _, err := file.Seek(p.from, io.SeekStart); err != nil {
			return p, err
		}
	}
	for p.length > 0 {
		size, err := x.turn(p.length)
		if err != nil {
			x.abort(reasonClient, err)
		}
		x.armNow()
		n, err := io.Copy(to, &io.LimitedReader{R: file, N: size})
		x.sent += n
		p.from, p.length = p.from+n, p.length-n
		switch {
		case err != nil && x.r.Context().Err() != nil, isNetwork(err):
			x.abort(reasonClient, err)
		case err != nil:
			return p, err
		case n == 0:
			return p, fmt.Errorf("the file ends %d bytes too early", p.length)
		}
	}
	return p, nil
}

// sendRest continues a part at the byte at which the stored file could not be read. The rest
// comes from another source.
func (x *exchange) sendRest(a *answer, rest part, failed *proto.Blob, cause error) {
	x.f.log.Error("cannot read a stored object to its end; the rest comes from another source",
		"location", x.loc.String(), "sent", x.sent, "error", cause)
	blob, err := x.f.fetcher.Reopen(x.r.Context(), x.entry.Object, failed, cause)
	if err != nil {
		x.abort(reasonStream, err)
	}
	defer blob.Close()
	_, parted := blob.Stream.(proto.Parted)
	switch {
	case blob.Ref.Size != a.size:
		err = &wrongLength{want: a.size, got: blob.Ref.Size}
	case blob.Bytes != nil:
		x.sendBytes(blob.Bytes[rest.from : rest.from+rest.length])
	case blob.File != nil:
		_, err = x.copyFile(x.w, blob.File, 0, rest)
	case parted:
		err = x.copyStream(a, nil, rest, blob.Stream)
	default:
		err = cause
	}
	if err != nil {
		x.abort(reasonStream, err)
	}
}

// sendStream writes a body that is still arriving. The head waits for the first
// byte: a stream that fails before it is answered with an error as it should be.
func (x *exchange) sendStream(a *answer, blob *proto.Blob) {
	own := *a // so that answers without a stream need not live on the heap
	for i := range own.pieces() {
		head, p := own.piece(i)
		err := x.copyStream(&own, head, p, blob.Stream)
		switch {
		case err != nil && !x.begun:
			x.fail(err)
			return
		case err != nil && x.r.Context().Err() != nil:
			x.abort(reasonClient, err)
		case err != nil:
			x.abortStream(a, err)
		}
	}
	if !x.begun {
		x.begin(a) // an empty body
	}
	x.sendBytes(a.end())
}

// copyStream sends a part of a stream, with a head before its first byte. The error is the stream's.
func (x *exchange) copyStream(a *answer, head []byte, p part, in io.Reader) error {
	if a.status == http.StatusPartialContent || p.from > 0 {
		in.(proto.Parted).Part(p.from, p.length)
	}
	out := &streamWriter{x: x, a: a, head: head, left: p.length}
	var err error
	if from, ok := in.(io.WriterTo); ok {
		_, err = from.WriteTo(out)
	} else {
		_, err = io.Copy(struct{ io.Writer }{out}, in)
	}
	switch {
	case out.err != nil:
		x.abort(reasonClient, out.err)
	case err == nil && p.length >= 0 && out.left != 0:
		return &wrongLength{want: p.length, got: p.length - out.left}
	}
	return err
}

// abortStream ends an answer that turned out wrong, so that the client notices: what
// is announced by Content-Length or chunks is missing its end. An HTTP/1.0 client
// without a length has only the connection to go by, so that must break and not
// close.
func (x *exchange) abortStream(a *answer, err error) {
	x.f.log.Warn("cut off an answer that could not be completed", "location", x.loc.String(), "sent", x.sent, "error", err)
	if a.length < 0 && !x.r.ProtoAtLeast(1, 1) {
		if conn, _, err := http.NewResponseController(x.w).Hijack(); err == nil {
			reset(conn)
			x.f.clients.leave(conn)
		}
	}
	x.abort(reasonStream, err)
}

// reset closes a connection so that the other side sees an error, not an end.
func reset(conn net.Conn) {
	raw := conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		raw = t.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
}

// abort ends the exchange and its connection at once. It does not return.
func (x *exchange) abort(reason string, err error) {
	x.aborted, x.failure = true, err
	x.note.result, x.note.reason = resultError, reason
	panic(http.ErrAbortHandler)
}

// streamWriter is the destination of a part of a stream. It sends the head of the answer and
// the head of the part before the first byte, and buffers nothing: a waiting client has all
// bytes that have arrived.
type streamWriter struct {
	x    *exchange
	a    *answer
	head []byte
	left int64 // of the part; below 0 where nobody knows how long it is
	err  error // of the client's connection, to tell it from an error of the stream
}

func (s *streamWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.room(int64(len(p))); err != nil {
		return 0, err
	}
	s.begin()
	total := 0
	for len(p) > 0 && s.err == nil {
		size, err := s.x.turn(int64(len(p)))
		if err != nil {
			s.err = err
			break
		}
		s.x.armNow()
		n, err := s.x.w.Write(p[:size])
		total, p = total+n, p[n:]
		s.wrote(int64(n), err)
	}
	return total, s.err
}

// ReadFrom implements io.ReaderFrom, by which files go out with sendfile.
func (s *streamWriter) ReadFrom(src io.Reader) (int64, error) {
	from, ok := s.x.w.(io.ReaderFrom)
	limited, bounded := src.(*io.LimitedReader)
	if !ok || !bounded {
		return io.Copy(struct{ io.Writer }{s}, src)
	}
	if err := s.room(limited.N); err != nil {
		return 0, err
	}
	var total int64
	for limited.N > 0 && s.err == nil {
		s.begin()
		size, err := s.x.turn(limited.N)
		if err != nil {
			s.err = err
			break
		}
		s.x.armNow()
		n, err := from.ReadFrom(&io.LimitedReader{R: limited.R, N: size})
		limited.N, total = limited.N-n, total+n
		if err != nil && !isNetwork(err) {
			s.count(n)
			return total, err // the source's
		}
		s.wrote(n, err)
		if n == 0 {
			break
		}
	}
	return total, s.err
}

// Flush implements http.Flusher. Every write is flushed already.
func (s *streamWriter) Flush() {}

// room refuses bytes beyond the announced length: sendfile would put them in front of
// the next answer on this connection.
func (s *streamWriter) room(n int64) error {
	if s.left >= 0 && n > s.left {
		return &wrongLength{want: s.a.length, got: s.x.sent + n}
	}
	return nil
}

func (s *streamWriter) begin() {
	if !s.x.begun {
		s.x.begin(s.a)
	}
	s.x.sendBytes(s.head)
	s.head = nil
}

func (s *streamWriter) wrote(n int64, err error) {
	s.count(n)
	if err == nil {
		err = http.NewResponseController(s.x.w).Flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.err = err
	}
}

func (s *streamWriter) count(n int64) {
	s.x.sent += n
	if s.left >= 0 {
		s.left -= n
	}
}

// isNetwork reports whether an error is the connection's and not the file's. sendfile reports
// both as the connection's.
func isNetwork(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !errors.Is(err, syscall.EIO)
}

// wrongLength is a body of another length than its Content-Length.
type wrongLength struct{ want, got int64 }

func (w *wrongLength) Error() string {
	return fmt.Sprintf("it has %d bytes where %d are listed", w.got, w.want)
}

// Unwrap makes it a proto.ErrCorrupt.
func (w *wrongLength) Unwrap() error { return proto.ErrCorrupt }
