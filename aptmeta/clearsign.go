package aptmeta

import (
	"bytes"
	"fmt"

	"github.com/aptmesh/aptmesh/node/format/pgp"
)

const (
	clearsignBegin = "-----BEGIN PGP SIGNED MESSAGE-----"
	signatureBegin = "-----BEGIN PGP SIGNATURE-----"
	signatureEnd   = "-----END PGP SIGNATURE-----"
)

// clearsigned is a message of the cleartext signature framework (RFC 9580, section 7),
// taken apart.
type clearsigned struct {
	// text is what is signed, with "\n" after each line, the last one too.
	text []byte
	// signature is the armoured signature: one block or several.
	signature []byte
}

// signed is what the signature is computed over before its own canonical form of line ends:
// apt writes no newline behind the last line.
func (c *clearsigned) signed() []byte { return bytes.TrimSuffix(c.text, []byte{'\n'}) }

// splitClearsigned takes a clearsigned file apart as apt does, line by line
// (SplitClearSignedFile, apt-pkg/contrib/gpgv.cc; equal in apt 2.4 to 3.1). apt gives the two
// parts to gpgv or sqv as two files, so nothing but this decides what was signed. A file that
// this function accepts and apt refuses would stop every host, and the reverse:
//
//   - The very first line is BEGIN PGP SIGNED MESSAGE. Nothing stands before it, not even an
//     empty line.
//   - Headers follow up to an empty line. No header begins with a dash. Their content does not
//     matter, because the signature itself says with which hash it was made.
//   - A line of the text that begins with a dash is escaped with "- ".
//   - Behind the text stand blocks of signatures, one directly after the other. No line in a
//     block begins with a dash except the last one. Nothing stands between or behind the blocks,
//     not even an empty line.
//
// White space and carriage returns at the end of a line count nowhere.
func splitClearsigned(data []byte) (*clearsigned, error) {
	if len(data) > MaxRelease {
		return nil, fmt.Errorf("%w: %d bytes are more than an InRelease may have (%d)", pgp.ErrNotSigned, len(data), MaxRelease)
	}
	line, rest := cutCleanLine(data)
	if string(line) != clearsignBegin {
		return nil, fmt.Errorf("%w: its first line is not %s", pgp.ErrNotSigned, clearsignBegin)
	}
	rest, err := skipArmourHeaders(rest)
	if err != nil {
		return nil, err
	}
	c := &clearsigned{text: make([]byte, 0, len(rest))}
	if rest, err = c.readText(rest); err != nil {
		return nil, err
	}
	c.signature, err = signatureBlocks(rest)
	return c, err
}

// cutCleanLine splits off a line, without what ends it: first the newline and carriage returns,
// then spaces and tabs (LineBuffer::readFrom, apt-pkg/contrib/gpgv.cc). A carriage return before
// a space stays.
func cutCleanLine(data []byte) (line, rest []byte) {
	line, rest = cutLine(data)
	return bytes.TrimRight(bytes.TrimRight(line, "\r"), " \t"), rest
}

func skipArmourHeaders(data []byte) (rest []byte, err error) {
	for len(data) > 0 {
		var line []byte
		line, data = cutCleanLine(data)
		if len(line) == 0 {
			return data, nil
		}
		if line[0] == '-' {
			return nil, fmt.Errorf("%w: the line %.60q stands before the signed text", pgp.ErrNotSigned, line)
		}
	}
	return nil, fmt.Errorf("%w: it ends before the signed text", pgp.ErrNotSigned)
}

// readText reads the signed lines and returns the rest, which begins with the signature's
// armour.
func (c *clearsigned) readText(data []byte) (rest []byte, err error) {
	for len(data) > 0 {
		var line []byte
		begin := data
		line, data = cutCleanLine(data)
		if len(line) > 0 && line[0] == '-' {
			if string(line) == signatureBegin {
				return begin, nil
			}
			if !bytes.HasPrefix(line, []byte("- ")) {
				return nil, fmt.Errorf("%w: the line %.60q in its text is not escaped", pgp.ErrNotSigned, line)
			}
			line = line[2:]
		}
		c.text = append(append(c.text, line...), '\n')
	}
	return nil, fmt.Errorf("%w: it ends before the signature (is it cut short?)", pgp.ErrNotSigned)
}

// signatureBlocks checks that data consists of armoured signatures and nothing else, and
// returns it with tidy line ends. It holds for what stands behind the text of an InRelease and
// for a Release.gpg alike (SplitClearSignedFile and VerifyDetachedSignatureFile,
// apt-pkg/contrib/gpgv.cc; in apt 2.4 and 2.6 the latter is part of ExecGPGV). A binary
// signature is refused, because apt refuses it.
func signatureBlocks(data []byte) ([]byte, error) {
	if len(data) > 0 && data[0]&0x80 != 0 {
		return nil, fmt.Errorf("%w: the signature is binary, and apt reads armoured ones only", pgp.ErrNotSigned)
	}
	blocks := make([]byte, 0, len(data)+1)
	open := false
	for len(data) > 0 {
		var line []byte
		line, data = cutCleanLine(data)
		switch {
		case !open && string(line) == signatureBegin:
			open = true
		case !open && len(blocks) == 0:
			return nil, fmt.Errorf("%w: %.60q is not the first line of a signature", pgp.ErrNotSigned, line)
		case !open:
			return nil, fmt.Errorf("%w: there is something behind the signature", pgp.ErrNotSigned)
		case string(line) == signatureEnd:
			open = false
		case len(line) > 0 && line[0] == '-':
			return nil, fmt.Errorf("%w: the line %.60q stands in the signature", pgp.ErrNotSigned, line)
		}
		blocks = append(append(blocks, line...), '\n')
	}
	switch {
	case open:
		return nil, fmt.Errorf("%w: it ends within the signature (is it cut short?)", pgp.ErrNotSigned)
	case len(blocks) == 0:
		return nil, fmt.Errorf("%w: the signature is empty", pgp.ErrNotSigned)
	}
	return blocks, nil
}

// SplitInRelease returns the text of an InRelease without looking at the signature, for archives
// that are configured to be trusted without one. A plain Release, as such archives may publish
// under either name, is returned as it is. A file that contains the first line of a signed
// message further down is refused (OpenMaybeClearSignedFile, apt-pkg/contrib/gpgv.cc).
func SplitInRelease(data []byte) (text []byte, err error) {
	if len(data) > MaxRelease {
		return nil, fmt.Errorf("release file of %d bytes: larger than %d", len(data), MaxRelease)
	}
	first, _ := cutCleanLine(data)
	if string(first) == clearsignBegin {
		c, err := splitClearsigned(data)
		if err != nil {
			return nil, fmt.Errorf("InRelease: %w", err)
		}
		return c.text, nil
	}
	for rest := data; len(rest) > 0; {
		var line []byte
		line, rest = cutCleanLine(rest)
		if string(line) == clearsignBegin {
			return nil, fmt.Errorf("InRelease: %w: there is text before the signed message", pgp.ErrNotSigned)
		}
	}
	return data, nil
}

// SameText reports whether two texts of a Release say the same, as those of an
// InRelease and of a Release with its Release.gpg should: they are alike
// except for what clearsigning does not keep, which is white space at the end of lines
// and empty lines at the end.
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
