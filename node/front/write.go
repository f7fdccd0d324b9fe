package front

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
		x.begin(a)
		x.sendBytes(blob.Bytes[a.from : a.from+a.length])
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

// sendFile writes the part of a file. net/http passes it on to sendfile(2) as long
// as what it is given is a file, or a bare io.LimitedReader of one.
func (x *exchange) sendFile(a *answer, blob *proto.Blob) {
	if a.from > 0 {
		if _, err := blob.File.Seek(a.from, io.SeekStart); err != nil {
			x.fail(err)
			return
		}
	}
	x.begin(a)
	if err := x.copyFile(a, blob); err != nil {
		x.sendRest(a, blob, err)
	}
}

// copyFile sends what is missing of the answer from where the file stands. It returns the error of the
// file.
func (x *exchange) copyFile(a *answer, blob *proto.Blob) error {
	for x.sent < a.length {
		size, err := x.turn(a.length - x.sent)
		if err != nil {
			x.abort(reasonClient, err)
		}
		x.armNow()
		n, err := io.Copy(x.w, &io.LimitedReader{R: blob.File, N: size})
		x.sent += n
		switch {
		case err != nil && x.r.Context().Err() != nil, isNetwork(err):
			x.abort(reasonClient, err)
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("the file ends %d bytes too early", a.length-x.sent)
		}
	}
	return nil
}

// sendRest continues an answer at the byte at which the stored file could not be read. The rest
// comes from another source.
func (x *exchange) sendRest(a *answer, failed *proto.Blob, cause error) {
	x.f.log.Error("cannot read a stored object to its end; the rest comes from another source",
		"location", x.loc.String(), "sent", x.sent, "error", cause)
	blob, err := x.f.fetcher.Reopen(x.r.Context(), x.entry.Object, failed, cause)
	if err != nil {
		x.abort(reasonStream, err)
	}
	defer blob.Close()
	from, rest := a.from+x.sent, a.length-x.sent
	stream, parted := blob.Stream.(proto.Parted)
	switch {
	case blob.Ref.Size != a.size:
		err = &wrongLength{want: a.size, got: blob.Ref.Size}
	case blob.Bytes != nil:
		x.sendBytes(blob.Bytes[from : from+rest])
	case blob.File != nil:
		if _, err = blob.File.Seek(from, io.SeekStart); err == nil {
			err = x.copyFile(a, blob)
		}
	case parted:
		stream.Part(from, rest)
		out := &streamWriter{x: x, a: a}
		_, err = copyStream(out, blob.Stream)
		if out.err != nil {
			x.abort(reasonClient, out.err)
		}
		if err == nil && x.sent != a.length {
			err = &wrongLength{want: a.length, got: x.sent}
		}
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
	if a.status == http.StatusPartialContent {
		blob.Stream.(proto.Parted).Part(a.from, a.length)
	}
	own := *a // so that answers without a stream need not live on the heap
	out := &streamWriter{x: x, a: &own}
	n, err := copyStream(out, blob.Stream)
	switch {
	case out.err != nil:
		x.abort(reasonClient, out.err)
	case err != nil && !x.begun:
		x.fail(err)
		return
	case err != nil && x.r.Context().Err() != nil:
		x.abort(reasonClient, err)
	case err != nil:
		x.abortStream(a, err)
	case a.length >= 0 && n != a.length:
		x.abortStream(a, &wrongLength{want: a.length, got: n})
	}
	if !x.begun {
		x.begin(a) // an empty body
	}
}

func copyStream(out *streamWriter, in io.Reader) (int64, error) {
	if from, ok := in.(io.WriterTo); ok {
		_, err := from.WriteTo(out)
		return out.x.sent, err
	}
	_, err := io.Copy(struct{ io.Writer }{out}, in)
	return out.x.sent, err
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

// streamWriter is what a stream writes itself to. It sends the head of the answer
// before the first byte, and holds nothing back: who waits for more bytes has all
// that there are.
type streamWriter struct {
	x   *exchange
	a   *answer
	err error // of the client's connection, to tell it from an error of the stream
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
			s.x.sent += n
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
	if s.a.length >= 0 && s.x.sent+n > s.a.length {
		return &wrongLength{want: s.a.length, got: s.x.sent + n}
	}
	return nil
}

func (s *streamWriter) begin() {
	if !s.x.begun {
		s.x.begin(s.a)
	}
}

func (s *streamWriter) wrote(n int64, err error) {
	s.x.sent += n
	if err == nil {
		err = http.NewResponseController(s.x.w).Flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.err = err
	}
}

// isNetwork tells the errors of a connection from those of a file. sendfile reports
// both as the connection's.
func isNetwork(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !errors.Is(err, syscall.EIO)
}

// wrongLength is a body whose length is not the one announced for it.
type wrongLength struct{ want, got int64 }

func (w *wrongLength) Error() string {
	return fmt.Sprintf("it has %d bytes where %d are listed", w.got, w.want)
}

// Unwrap makes it a proto.ErrCorrupt.
func (w *wrongLength) Unwrap() error { return proto.ErrCorrupt }
