package aptmeta

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/aptmesh/aptmesh/node/format/pgp"
)

// aptReleaseText is releaseText with lines that apt reads as fields, for tests in which apt reads
// what is signed.
var aptReleaseText = strings.NewReplacer("- two", "- two: 2", "--- three", "--- three: 3").Replace(releaseText)

type clearsignTrap struct {
	name string
	data string
	is   error // nil: accepted
}

// checksum returns the line that armour may end with (RFC 9580, section 6.1).
func checksum(tb testing.TB, packets []byte) string {
	tb.Helper()
	var b bytes.Buffer
	w, err := armor.EncodeWithChecksumOption(&b, openpgp.SignatureType, nil, true)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(packets); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	lines := strings.SplitAfter(b.String(), "\n")
	i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "=") })
	return lines[i]
}

// clearsignTraps are ways in which a clearsigned file has been made to say what nobody signed,
// and odd forms that are harmless.
func clearsignTraps(tb testing.TB, text string) []clearsignTrap {
	tb.Helper()
	good := string(inRelease(tb, text, at(now), goodKey()))
	evil := string(inRelease(tb, strings.Replace(text, "noble", "evil", 1), at(now), otherKey()))
	replace := func(from, to string) string {
		tb.Helper()
		if !strings.Contains(good, from) {
			tb.Fatalf("no %q in the signed file", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	before, armour, _ := strings.Cut(good, signatureBegin)
	armour = signatureBegin + armour
	_, other, _ := strings.Cut(string(inRelease(tb, text, at(now), otherKey())), signatureBegin)
	otherBlock := signatureBegin + other
	ofFile := string(armoured(tb, openpgp.SignatureType, detached(tb, strings.TrimSuffix(text, "\n"), at(now), otherKey())))
	goodOfFile := string(armoured(tb, openpgp.SignatureType, detached(tb, strings.TrimSuffix(text, "\n"), at(now), goodKey())))
	packets, err := dearmour([]byte(armour))
	if err != nil {
		tb.Fatal(err)
	}
	sum := checksum(tb, packets)
	return []clearsignTrap{
		{"as it is", good, nil},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), nil},
		{"white space at the end of lines", strings.ReplaceAll(good, "noble\n", "noble \t \n"), nil},
		{"white space, then CRLF", strings.ReplaceAll(good, "noble\n", "noble \r\n"), nil},
		{"carriage returns at the end of a line", replace("noble\n", "noble\r\r\n"), nil},
		{"no newline at the end", strings.TrimSpace(good), nil},
		{"newline before it", "\n" + good, pgp.ErrNotSigned},
		{"space before it", " " + good, pgp.ErrNotSigned},
		{"carriage return before it", "\r\n" + good, pgp.ErrNotSigned},
		{"byte order mark before", "\ufeff" + good, pgp.ErrNotSigned},
		{"text before", "Suite: evil\n" + good, pgp.ErrNotSigned},
		{"text before, with an empty line", "Suite: evil\n\n" + good, pgp.ErrNotSigned},
		{"newline behind", good + "\n", pgp.ErrNotSigned},
		{"two newlines behind", good + "\n\n", pgp.ErrNotSigned},
		{"CRLF behind", good + "\r\n", pgp.ErrNotSigned},
		{"space behind", good + " ", pgp.ErrNotSigned},
		{"text behind", good + "Suite: evil\n", pgp.ErrNotSigned},
		{"NUL behind", good + "\x00", pgp.ErrNotSigned},
		{"white space behind the last line", strings.TrimSpace(good) + " \t", nil},
		{"two messages", good + good, pgp.ErrNotSigned},
		{"another message before", evil + good, pgp.ErrNotSigned},
		{"another message behind", good + evil, pgp.ErrNotSigned},
		{"text between message and signature end", replace(signatureEnd, "-Suite: evil\n"+signatureEnd), pgp.ErrNotSigned},
		{"the same signature behind", good + armour, nil},
		{"a signature by an unknown key behind", good + otherBlock, nil},
		{"a signature by an unknown key before", before + otherBlock + armour, nil},
		{"an unknown signature of a file behind", good + ofFile, nil},
		{"an unknown signature of a file before", before + ofFile + armour, pgp.ErrUnknownKey},
		{"a signature of a file", before + goodOfFile, nil},
		{"a wrong checksum", replace(signatureEnd, "=AAAA\n"+signatureEnd), pgp.ErrNotSigned},
		{"a checksum", replace(signatureEnd, sum+signatureEnd), nil},
		{"an armour header", replace(signatureBegin, signatureBegin+"\nVersion: x"), nil},
		{"an armour header without a colon", replace(signatureBegin, signatureBegin+"\nfoo"), pgp.ErrNotSigned},
		{"empty lines in the armour", replace(signatureEnd, "\n \n"+sum+"\n\n"+signatureEnd), nil},
		{"an empty line between signatures", good + "\n" + otherBlock, pgp.ErrNotSigned},
		{"text between signatures", good + "Suite: evil\n" + otherBlock, pgp.ErrNotSigned},
		{"another header", replace("Hash: SHA256\n", "Hash: SHA256\nSuite: evil\n"), nil},
		{"another header alone", replace("Hash: SHA256\n", "Suite: evil\n"), nil},
		{"header without a colon", replace("Hash: SHA256\n", "evil\n"), nil},
		{"header with control bytes", replace("Hash: SHA256\n", "Hash: SHA256\vSuite: evil\n"), nil},
		{"header with a dash", replace("Hash: SHA256\n", "-Suite: evil\n"), pgp.ErrNotSigned},
		{"white space for the empty line", replace("Hash: SHA256\n\n", "Hash: SHA256\n \n"), nil},
		{"white space for the empty line, and text", replace("Hash: SHA256\n\n", "Hash: SHA256\n \nSuite: evil\n\n"), pgp.ErrBadSignature},
		{"no header", replace("Hash: SHA256\n", ""), nil},
		{"header of another hash", replace("Hash: SHA256\n", "Hash: SHA1\n"), nil}, // the signature itself says which
		{"second empty line", replace("Hash: SHA256\n\n", "Hash: SHA256\n\n\n"), pgp.ErrBadSignature},
		{"escape removed", replace("- --- three", "--- three"), pgp.ErrNotSigned},
		{"escape doubled", replace("- --- three", "- - --- three"), pgp.ErrBadSignature},
		{"escape without need", replace("Suite: noble", "- Suite: noble"), nil},
		{"a lone dash", replace("Suite: noble\n", "Suite: noble\n-\n"), pgp.ErrNotSigned},
		{"an escaped empty line", replace("Suite: noble\n", "Suite: noble\n- \n"), pgp.ErrNotSigned},
		{"armour lines with white space", strings.NewReplacer(signatureBegin, signatureBegin+" ", signatureEnd, signatureEnd+"\t").Replace(good), nil},
		{"first line with white space", replace(clearsignBegin, clearsignBegin+" "), nil},
		{"first line with something behind", replace(clearsignBegin, clearsignBegin+"-"), pgp.ErrNotSigned},
		{"first line escaped", replace(clearsignBegin, "- "+clearsignBegin), pgp.ErrNotSigned},
		{"carriage return inside a line", replace("Suite: noble", "Suite: evil\rSuite: noble"), pgp.ErrBadSignature},
		{"NUL in the text", replace("noble\n", "noble\x00\n"), pgp.ErrBadSignature},
		{"form feed at the end of a line", replace("noble\n", "noble\f\n"), pgp.ErrBadSignature},
		{"line added", replace("Suite: noble\n", "Suite: noble\nSuite: evil\n"), pgp.ErrBadSignature},
		{"line removed", replace("Suite: noble\n", ""), pgp.ErrBadSignature},
		{"empty line added at the end", before + "\n" + armour, pgp.ErrBadSignature},
		{"message of another kind", strings.ReplaceAll(good, "PGP SIGNATURE", "PGP MESSAGE"), pgp.ErrNotSigned},
		{"empty", "", pgp.ErrNotSigned},
		{"only the first line", clearsignBegin + "\n", pgp.ErrNotSigned},
		{"no signature", before, pgp.ErrNotSigned},
		{"no end of the signature", replace(signatureEnd+"\n", ""), pgp.ErrNotSigned},
		{"empty signature", before + signatureBegin + "\n\n" + signatureEnd + "\n", pgp.ErrNotSigned},
	}
}

// TestClearsignTraps holds that either the file is refused or the text is the signed one.
func TestClearsignTraps(t *testing.T) {
	ring := keyring(t, goodKey())
	good := string(inRelease(t, releaseText, at(now), goodKey()))
	huge := clearsignTrap{"huge", good + strings.Repeat("\n", MaxRelease), pgp.ErrNotSigned}
	for _, test := range append(clearsignTraps(t, releaseText), huge) {
		t.Run(test.name, func(t *testing.T) {
			text, _, err := VerifyInRelease(ring, []byte(test.data), now)
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
		if _, _, err := VerifyInRelease(ring, []byte(whole[:i]), now); err == nil {
			t.Fatalf("accepted the first %d of %d bytes", i, len(whole))
		}
	}
}

// TestClearsignAsApt holds that the apt of this machine accepts exactly the same forms.
func TestClearsignAsApt(t *testing.T) {
	apt := newRealApt(t, binaryKeys(t, goodKey()))
	tests := clearsignTraps(t, aptReleaseText)
	for _, test := range tests {
		apt.add(map[string][]byte{"InRelease": []byte(test.data), "main/binary-amd64/Packages": nil})
	}
	accepted, said := apt.update("")
	for i, test := range tests {
		if strings.Contains(test.data, "\x00\n") {
			continue // apt up to 2.8 strips it (its StringView finds NUL in any text), apt 3 does not
		}
		if accepted[i] != (test.is == nil) {
			t.Errorf("%s: apt accepts it: %t, we do: %t\n%s", test.name, accepted[i], test.is == nil, apt.about(said, i))
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
		{"plain with text in front of a message", append([]byte("Suite: evil\n"), signed...), "", true},
		{"an empty line in front of a message", append([]byte("\n"), signed...), "", true},
		{"plain with another block", []byte("Suite: x\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n"), "Suite: x\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n", false},
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
