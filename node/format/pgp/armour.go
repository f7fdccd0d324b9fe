package pgp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

var (
	armourBegin = []byte("-----BEGIN PGP ")
	armourEnd   = []byte("-----END PGP ")
)

// cutLine splits off the first line, without its newline.
func cutLine(text []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(text, []byte{'\n'})
	return line, rest
}

// cutCleanLine splits off a line, without the carriage returns and the white space at its end.
func cutCleanLine(text []byte) (line, rest []byte) {
	line, rest = cutLine(text)
	return bytes.TrimRight(bytes.TrimRight(line, "\r"), " \t"), rest
}

// cutArmour finds the first armoured block, from its BEGIN line to its END line, and what
// follows it.
func cutArmour(data []byte) (block, rest []byte, ok bool) {
	began := false
	for len(data) > 0 {
		line, after := cutLine(data)
		switch {
		case !began && bytes.HasPrefix(line, armourBegin):
			began, block = true, data
		case began && bytes.HasPrefix(line, armourEnd):
			return block[:len(block)-len(after)], after, true
		}
		data = after
	}
	return nil, nil, false
}

// dearmourSignatures returns the packets of armoured blocks. The OpenPGP library reads armour more generously than gpgv does: gpgv finds no signature where
// the checksum of a block is wrong or a header has no colon. What it reads and sqv does not,
// such as lines behind the checksum, is refused as well.
func dearmourSignatures(blocks []byte) ([]byte, error) {
	var all []byte
	for bytes.Contains(blocks, armourBegin) {
		block, rest, ok := cutArmour(blocks)
		if !ok {
			return nil, errors.New("the signature is cut short")
		}
		body, err := dearmour(block)
		if err != nil {
			return nil, err
		}
		all, blocks = append(all, body...), rest
	}
	return all, nil
}

// dearmour decodes one block (RFC 9580, section 6.2): headers, an empty line, base64, perhaps a
// checksum.
func dearmour(block []byte) ([]byte, error) {
	_, rest := cutLine(block) // BEGIN
	for {
		var line []byte
		if line, rest = cutCleanLine(rest); len(line) == 0 {
			break
		}
		if bytes.IndexByte(line, ':') < 0 {
			return nil, fmt.Errorf("%.40q in the armour is not a header", line)
		}
	}
	var text, sum []byte
	for {
		var line []byte
		line, rest = cutCleanLine(rest)
		switch {
		case bytes.HasPrefix(line, armourEnd):
			return decodeArmour(text, sum)
		case len(rest) == 0:
			return nil, errors.New("the armour is cut short")
		case len(line) == 0:
		case sum != nil:
			return nil, errors.New("there is something behind the checksum of the armour")
		case line[0] == '=':
			sum = line[1:]
		default:
			text = append(text, line...)
		}
	}
}

func decodeArmour(text, sum []byte) ([]byte, error) {
	body, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return nil, fmt.Errorf("the armour is damaged: %w", err)
	}
	if sum == nil {
		return body, nil
	}
	want, err := base64.StdEncoding.AppendDecode(nil, sum)
	if err != nil || !bytes.Equal(want, crc24(body)) {
		return nil, errors.New("the checksum of the armour is wrong")
	}
	return body, nil
}

// crc24 is the checksum of armour (RFC 9580, section 6.1.1).
func crc24(data []byte) []byte {
	const start, polynomial = 0xb704ce, 0x1864cfb
	sum := uint32(start)
	for _, c := range data {
		sum ^= uint32(c) << 16
		for range 8 {
			if sum <<= 1; sum&0x1000000 != 0 {
				sum ^= polynomial
			}
		}
	}
	return []byte{byte(sum >> 16), byte(sum >> 8), byte(sum)}
}
