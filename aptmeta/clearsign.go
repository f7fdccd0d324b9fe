package aptmeta

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrNotSigned means that a file is not in the form of a signed file at all: not
// exactly one clearsigned message, or not a signature. An HTML page in place of an
// InRelease ends here.
var ErrNotSigned = errors.New("not a signed file")

const (
	clearsignBegin = "-----BEGIN PGP SIGNED MESSAGE-----"
	signatureBegin = "-----BEGIN PGP SIGNATURE-----"
	signatureEnd   = "-----END PGP SIGNATURE-----"
)

// clearsigned is a message of the cleartext signature framework (RFC 9580,
// section 7), taken apart.
type clearsigned struct {
	// text is what is signed, with "\n" after each line, the last one too.
	text []byte
	// signed is what the signature was computed over: the same lines with "\r\n"
	// between them and nothing after the last.
	signed []byte
	// signature is the armoured signature.
	signature []byte
}

// splitClearsigned takes a clearsigned file apart. Only what can be read in one
// way is accepted, since apt, gpg and this code must agree on what was signed:
//
//   - Exactly one message, and nothing around it but white space. Text outside the
//     signature is the classic way to smuggle in what nobody signed.
//   - The armour lines stand for themselves, without trailing white space.
//   - Between the first line and the empty line, which is really empty, stand Hash
//     headers and nothing else.
//   - Every line of the text that begins with a dash is escaped with "- ".
//   - A carriage return stands only before a newline; NUL does not occur.
//
// White space at the end of a line is not covered by the signature, so it is not
// in the text either.
func splitClearsigned(data []byte) (*clearsigned, error) {
	if len(data) > MaxRelease {
		return nil, fmt.Errorf("%w: %d bytes are more than an InRelease may have (%d)", ErrNotSigned, len(data), MaxRelease)
	}
	data = bytes.TrimLeft(data, " \t\r\n")
	line, rest := cutCleanLine(data)
	if string(line) != clearsignBegin {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrNotSigned, clearsignBegin)
	}
	rest, err := skipHashHeaders(rest)
	if err != nil {
		return nil, err
	}
	c := &clearsigned{
		text:   make([]byte, 0, len(rest)),
		signed: make([]byte, 0, len(rest)+len(rest)/16),
	}
	if rest, err = c.readText(rest); err != nil {
		return nil, err
	}
	return c, c.readSignature(rest)
}

// cutCleanLine splits off a line, without the "\n" or "\r\n" that ends it.
func cutCleanLine(data []byte) (line, rest []byte) {
	line, rest = cutLine(data)
	if len(line) < len(data) {
		line = bytes.TrimSuffix(line, []byte{'\r'})
	}
	return line, rest
}

func skipHashHeaders(data []byte) (rest []byte, err error) {
	for len(data) > 0 {
		var line []byte
		line, data = cutCleanLine(data)
		if len(line) == 0 {
			return data, nil
		}
		if !bytes.HasPrefix(line, []byte("Hash: ")) || bytes.ContainsFunc(line, notPrintable) {
			return nil, fmt.Errorf("%w: %.60q before the signed text is not a Hash header", ErrNotSigned, line)
		}
	}
	return nil, fmt.Errorf("%w: it ends before the signed text", ErrNotSigned)
}

func notPrintable(r rune) bool { return r < ' ' || r > '~' }

// readText reads the signed lines and returns the rest, which begins with the
// signature's armour.
func (c *clearsigned) readText(data []byte) (rest []byte, err error) {
	for first := true; len(data) > 0; first = false {
		var line []byte
		begin := data
		line, data = cutCleanLine(data)
		if string(line) == signatureBegin {
			return begin, nil
		}
		if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
			return nil, fmt.Errorf("%w: a stray carriage return or NUL in its text", ErrNotSigned)
		}
		if len(line) > 0 && line[0] == '-' {
			if !bytes.HasPrefix(line, []byte("- ")) {
				return nil, fmt.Errorf("%w: the line %.60q in its text is not escaped", ErrNotSigned, line)
			}
			line = line[2:]
		}
		line = bytes.TrimRight(line, " \t")
		if !first {
			c.signed = append(c.signed, '\r', '\n')
		}
		c.signed = append(c.signed, line...)
		c.text = append(append(c.text, line...), '\n')
	}
	return nil, fmt.Errorf("%w: it ends before the signature (is it cut short?)", ErrNotSigned)
}

// readSignature finds the end of the signature's armour, and nothing behind it.
func (c *clearsigned) readSignature(data []byte) error {
	for rest := data; len(rest) > 0; {
		var line []byte
		line, rest = cutCleanLine(rest)
		if string(line) != signatureEnd {
			continue
		}
		c.signature = data[:len(data)-len(rest)]
		if len(bytes.TrimSpace(rest)) > 0 {
			return fmt.Errorf("%w: there is something behind the signature", ErrNotSigned)
		}
		return nil
	}
	return fmt.Errorf("%w: it ends within the signature (is it cut short?)", ErrNotSigned)
}

// SplitInRelease returns the text of an InRelease without looking at the
// signature, for archives that are configured to be trusted without one. A plain
// Release, as such archives may publish under either name, is returned as it is.
func SplitInRelease(data []byte) (text []byte, err error) {
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("-----BEGIN PGP ")) {
		c, err := splitClearsigned(data)
		if err != nil {
			return nil, fmt.Errorf("InRelease: %w", err)
		}
		return c.text, nil
	}
	if len(data) > MaxRelease {
		return nil, fmt.Errorf("release file of %d bytes: larger than %d", len(data), MaxRelease)
	}
	if bytes.Contains(data, []byte("\n-----BEGIN PGP ")) {
		return nil, fmt.Errorf("InRelease: %w: there is text before its armour", ErrNotSigned)
	}
	return data, nil
}

// SameText reports whether two texts of a Release say the same, as those of an
// InRelease and of a Release with its Release.gpg should: they are alike but for
// what clearsigning does not keep, which is white space at the end of lines and
// empty lines at the end.
func SameText(a, b []byte) bool {
	a, b = bytes.TrimRight(a, " \t\r\n"), bytes.TrimRight(b, " \t\r\n")
	for len(a) > 0 && len(b) > 0 {
		var lineA, lineB []byte
		lineA, a = cutLine(a)
		lineB, b = cutLine(b)
		if !bytes.Equal(bytes.TrimRight(lineA, " \t\r"), bytes.TrimRight(lineB, " \t\r")) {
			return false
		}
	}
	return len(a) == len(b)
}
