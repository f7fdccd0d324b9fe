package aptmeta

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestClearsignTraps holds the ways in which a clearsigned file has been made to
// say what nobody signed. Either the file is refused or the text is the signed one.
func TestClearsignTraps(t *testing.T) {
	ring := keyring(t, goodKey())
	good := string(inRelease(t, releaseText, at(now), goodKey()))
	evil := string(inRelease(t, strings.Replace(releaseText, "noble", "evil", 1), at(now), otherKey()))
	replace := func(from, to string) string {
		t.Helper()
		if !strings.Contains(good, from) {
			t.Fatalf("no %q in the signed file", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	before, armour, _ := strings.Cut(good, signatureBegin)
	armour = signatureBegin + armour
	tests := []struct {
		name string
		data string
		is   error // nil: accepted
	}{
		{"as it is", good, nil},
		{"white space around it", "\n \t\r\n" + good + "\n\n \r\n", nil},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), nil},
		{"white space at the end of lines", strings.ReplaceAll(good, "noble\n", "noble \t \n"), nil},
		{"white space, then CRLF", strings.ReplaceAll(good, "noble\n", "noble \r\n"), nil},
		{"no newline at the end", strings.TrimSpace(good), nil},
		{"text before", "Suite: evil\n" + good, ErrNotSigned},
		{"text before, with an empty line", "Suite: evil\n\n" + good, ErrNotSigned},
		{"byte order mark before", "\ufeff" + good, ErrNotSigned},
		{"text behind", good + "Suite: evil\n", ErrNotSigned},
		{"NUL behind", good + "\x00", ErrNotSigned},
		{"two messages", good + good, ErrNotSigned},
		{"another message before", evil + good, ErrNotSigned},
		{"another message behind", good + evil, ErrNotSigned},
		{"another signature behind", good + armour, ErrNotSigned},
		{"text between message and signature end", replace(signatureEnd, "Suite: evil\n"+signatureEnd), ErrNotSigned},
		{"text as header", replace("Hash: SHA256\n", "Hash: SHA256\nSuite: evil\n"), ErrNotSigned},
		{"text instead of header", replace("Hash: SHA256\n", "Suite: evil\n"), ErrNotSigned},
		{"header with control bytes", replace("Hash: SHA256\n", "Hash: SHA256\vSuite: evil\n"), ErrNotSigned},
		{"white space for the empty line", replace("Hash: SHA256\n\n", "Hash: SHA256\n \nSuite: evil\n\n"), ErrNotSigned},
		{"no empty line", replace("Hash: SHA256\n\n", "Hash: SHA256\n"), ErrNotSigned},
		{"no header", replace("Hash: SHA256\n", ""), nil},
		{"header of another hash", replace("Hash: SHA256\n", "Hash: SHA1\n"), nil}, // the signature itself says which
		{"second empty line", replace("Hash: SHA256\n\n", "Hash: SHA256\n\n\n"), ErrBadSignature},
		{"escape removed", replace("- --- three", "--- three"), ErrNotSigned},
		{"escape doubled", replace("- --- three", "- - --- three"), ErrBadSignature},
		{"armour line with white space", replace(signatureBegin, signatureBegin+" "), ErrNotSigned},
		{"first line with white space", replace(clearsignBegin, clearsignBegin+" "), ErrNotSigned},
		{"first line indented", replace(clearsignBegin, "- "+clearsignBegin), ErrNotSigned},
		{"carriage returns inside a line", replace("Suite: noble", "Suite: evil\rSuite: noble"), ErrNotSigned},
		{"carriage returns at the end of a line", replace("noble\n", "noble\r\r\n"), ErrNotSigned},
		{"NUL in the text", replace("noble\n", "noble\x00\n"), ErrNotSigned},
		{"form feed at the end of a line", replace("noble\n", "noble\f\n"), ErrBadSignature},
		{"line added", replace("Suite: noble\n", "Suite: noble\nSuite: evil\n"), ErrBadSignature},
		{"line removed", replace("Suite: noble\n", ""), ErrBadSignature},
		{"empty line added at the end", before + "\n" + armour, ErrBadSignature},
		{"message of another kind", strings.ReplaceAll(good, "PGP SIGNATURE", "PGP MESSAGE"), ErrNotSigned},
		{"empty", "", ErrNotSigned},
		{"only the first line", clearsignBegin + "\n", ErrNotSigned},
		{"no signature", before, ErrNotSigned},
		{"empty signature", before + signatureBegin + "\n\n" + signatureEnd + "\n", ErrNotSigned},
		{"huge", good + strings.Repeat("\n", MaxRelease), ErrNotSigned},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text, _, err := ring.VerifyInRelease([]byte(test.data), now)
			if !errors.Is(err, test.is) {
				t.Fatalf("error %v, want %v", err, test.is)
			}
			if err == nil && string(text) != releaseText {
				t.Errorf("text %q is not the signed one", text)
			}
			if err != nil && text != nil {
				t.Errorf("text %q with an error", text)
			}
		})
	}
	// Cut off anywhere, it is refused.
	whole := strings.TrimSpace(good)
	for i := range len(whole) {
		if _, _, err := ring.VerifyInRelease([]byte(whole[:i]), now); err == nil {
			t.Fatalf("accepted the first %d of %d bytes", i, len(whole))
		}
	}
}

func TestSplitInRelease(t *testing.T) {
	signed := inRelease(t, releaseText, at(now), otherKey())
	tests := []struct {
		name  string
		data  []byte
		text  string
		fails bool
	}{
		{"signed by anybody", signed, releaseText, false},
		{"plain", []byte(releaseText), releaseText, false},
		{"plain with text in front of armour", append([]byte("Suite: evil\n"), signed...), "", true},
		{"cut short", signed[:len(signed)-40], "", true},
		{"huge", bytes.Repeat([]byte{'\n'}, MaxRelease+1), "", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text, err := SplitInRelease(test.data)
			if (err != nil) != test.fails || string(text) != test.text {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
}

func TestSameText(t *testing.T) {
	tests := []struct {
		a, b string
		same bool
	}{
		{"A: 1\nB: 2\n", "A: 1\nB: 2\n", true},
		{"A: 1\nB: 2\n", "A: 1 \t\r\nB: 2\n\n", true},
		{"A: 1\nB: 2\n", "A: 1\nB: 2", true},
		{"", "\n", true},
		{"A: 1\nB: 2\n", "A: 1\n", false},
		{"A: 1\nB: 2\n", "A: 1\n\nB: 2\n", false},
		{"A: 1\n", "A:  1\n", false},
		{"A: 1\n", "", false},
	}
	for _, test := range tests {
		if SameText([]byte(test.a), []byte(test.b)) != test.same || SameText([]byte(test.b), []byte(test.a)) != test.same {
			t.Errorf("%q and %q: not %t", test.a, test.b, test.same)
		}
	}
}
