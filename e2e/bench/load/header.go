package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 64 << 10

var endOfHeader = []byte("\r\n\r\n")

// header takes bytes of an answer's header. Once it is complete the answer's
// status and length are known and rest is the beginning of the body.
func (a *answer) header(p []byte) (rest []byte, complete bool, err error) {
	text := p
	if len(a.head) > 0 {
		a.head = append(a.head, p...)
		text = a.head
	}
	end := bytes.Index(text, endOfHeader)
	if end < 0 {
		if len(a.head) == 0 {
			a.head = append(a.head, p...)
		}
		if len(a.head) > maxHeader {
			return nil, false, errors.New("endless header")
		}
		return nil, false, nil
	}
	rest = p[len(p)-(len(text)-end-len(endOfHeader)):]
	err = a.parse(text[:end])
	a.head = a.head[:0]
	a.inBody = true
	return rest, err == nil, err
}

// parse reads the status line and the few fields that matter.
func (a *answer) parse(text []byte) error {
	line, fields, _ := bytes.Cut(text, []byte("\r\n"))
	if len(line) < len("HTTP/1.1 200") || string(line[:7]) != "HTTP/1." {
		return fmt.Errorf("not HTTP: %.40q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return fmt.Errorf("not HTTP: %.40q", line)
	}
	a.status, a.size, a.got = status, -1, 0
	for len(fields) > 0 {
		line, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		// The length of the name rules nearly all fields out at once.
		colon := bytes.IndexByte(line, ':')
		switch colon {
		case len("Content-Length"):
			if bytes.EqualFold(line[:colon], []byte("Content-Length")) {
				if a.size, err = strconv.Atoi(string(bytes.TrimSpace(line[colon+1:]))); err != nil || a.size < 0 {
					return fmt.Errorf("bad length: %.40q", line)
				}
			}
		case len("Transfer-Encoding"):
			if bytes.EqualFold(line[:colon], []byte("Transfer-Encoding")) {
				return fmt.Errorf("status %d without a length", status)
			}
		case len("Connection"):
			if bytes.EqualFold(line[:colon], []byte("Connection")) {
				a.closing = bytes.EqualFold(bytes.TrimSpace(line[colon+1:]), []byte("close"))
			}
		}
	}
	if status == 304 || status == 204 {
		a.size = 0
	}
	if a.size < 0 {
		return fmt.Errorf("status %d without a length", status)
	}
	return nil
}
