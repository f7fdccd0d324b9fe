package pgp

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Without a key it can be told that a signature was made for other bytes.
func TestMayFit(t *testing.T) {
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	document := read("document")
	other := bytes.Replace(document, []byte("second"), []byte("third"), 1)
	for _, name := range []string{"ed25519-binary.sig", "rsa-sha512-armoured.sig", "rsa-text.sig", "two.sig", "rsa-sha1.sig"} {
		sig := read(name)
		if !MayFit(document, sig) {
			t.Errorf("%s does not fit what it signs", name)
		}
		if MayFit(other, sig) {
			t.Errorf("%s fits another document", name)
		}
	}
	// A signature of a text is the same whatever ends its lines and whatever space is before that.
	unix := bytes.ReplaceAll(document, []byte("\r\n"), []byte("\n"))
	if sig := read("rsa-text.sig"); !MayFit(unix, sig) || MayFit(unix, read("ed25519-binary.sig")) {
		t.Error("line endings count for a text, or do not for a file")
	}
	// One of several signatures that fits is enough.
	mixed := append(bytes.Clone(read("ed25519-binary.sig")), newSignature(t, other)...)
	if !MayFit(document, mixed) || !MayFit(other, mixed) || MayFit([]byte("neither"), mixed) {
		t.Error("of two signatures not each counts")
	}
	// What cannot be told is no reproach.
	for name, sig := range map[string][]byte{
		"a page": []byte("<html><body>Please log in</body></html>"), "nothing": nil, "damaged": read("ed25519-binary.sig")[:60], "an unknown hash": read("rsa-ripemd160.sig"),
	} {
		if !MayFit(other, sig) {
			t.Errorf("%s is called a signature of something else", name)
		}
	}
}

// newSignature is a signature of version 6.
func newSignature(t *testing.T, document []byte) []byte {
	t.Helper()
	config := at(now)
	config.V6Keys, config.Algorithm = true, packet.PubKeyAlgoEd25519
	var b bytes.Buffer
	if err := openpgp.DetachSign(&b, mustKey("Six", config), strings.NewReader(string(document)), config); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
