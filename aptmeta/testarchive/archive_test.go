package testarchive_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func noble(seed uint64) *testarchive.Archive {
	a := testarchive.New(seed)
	a.AddSuite(testarchive.Suite{Name: "noble", Components: []string{"main", "universe"}, Architectures: []string{"amd64", "arm64"}, ByHash: true})
	a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1:2.10-1+b1~x", Size: 5000})
	a.AddPackage("noble", testarchive.Package{Name: "libworld1", Version: "1.0", Component: "universe", Arch: "all"})
	return a
}

func TestSameSeedSameBytes(t *testing.T) {
	a, b := noble(1), noble(1)
	a.Publish(day)
	b.Publish(day)
	for path, data := range a.Files() {
		if !bytes.Equal(b.Files()[path], data) {
			t.Errorf("%s differs between two archives of one seed", path)
		}
	}
	if len(a.Files()) != len(b.Files()) {
		t.Errorf("%d files and %d files", len(a.Files()), len(b.Files()))
	}
}

func TestRootsAreSigned(t *testing.T) {
	a := noble(1)
	a.Publish(day)
	keyring, err := openpgp.ReadKeyRing(bytes.NewReader(a.Keyring()))
	if err != nil {
		t.Fatal(err)
	}
	files := a.Files()
	block, _ := clearsign.Decode(files["dists/noble/InRelease"])
	if block == nil {
		t.Fatal("InRelease is not clear-signed")
	}
	if _, err := block.VerifySignature(keyring, nil); err != nil {
		t.Error("InRelease:", err)
	}
	if !bytes.Equal(block.Plaintext, files["dists/noble/Release"]) {
		t.Error("InRelease and Release say different things")
	}
	if _, err := openpgp.CheckArmoredDetachedSignature(keyring, bytes.NewReader(files["dists/noble/Release"]), bytes.NewReader(files["dists/noble/Release.gpg"]), nil); err != nil {
		t.Error("Release.gpg:", err)
	}
}

func TestServerCounts(t *testing.T) {
	a := noble(1)
	a.Publish(day)
	s := testarchive.NewServer(a)
	defer s.Close()
	path := "pool/main/h/hello/hello_2.10-1+b1~x_amd64.deb"
	resp, err := s.Client().Get(s.URL + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(body, a.Files()[path]) {
		t.Fatalf("status %d, %d bytes, %v", resp.StatusCode, len(body), err)
	}
	if s.Requests(path) != 1 || s.TotalBytes() != int64(len(body)) || s.Connections() != 1 || s.PeakConcurrent() != 1 {
		t.Errorf("counted %d requests, %d bytes, %d connections, %d at once", s.Requests(path), s.TotalBytes(), s.Connections(), s.PeakConcurrent())
	}
}

func testGunzip(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What a suite and its packages say of their own form is what is published: the Release is
// altered before it is signed, an index before it is compressed and listed.
func TestOddForms(t *testing.T) {
	a := testarchive.New(1)
	a.AddSuite(testarchive.Suite{
		Name: "x", Compressions: []string{".own", ".gz"},
		Edit: func(text string) string { return text + " 00 7 odd\n" },
		EditIndex: func(path, text string) string {
			return strings.ReplaceAll(text, "Version: 1", "Version: 2") + "# " + path + "\n"
		},
		Pack: func(ext string, text []byte) []byte {
			if ext == ".own" {
				return append([]byte("own"), text...)
			}
			return nil
		},
	})
	a.AddPackage("x", testarchive.Package{Name: "hello", Version: "1", Path: "odd/h.deb", Listed: "./odd//h.deb"})
	a.AddPackage("x", testarchive.Package{Name: "tool", Version: "1", Source: true, Path: "src", Listed: "src/"})
	a.Publish(day)
	files := a.Files()

	own := string(files["dists/x/main/binary-amd64/Packages.own"])
	for _, want := range []string{"ownPackage: hello\n", "\nVersion: 2\n", "\nFilename: ./odd//h.deb\n", "# main/binary-amd64/Packages\n"} {
		if !strings.Contains(own, want) {
			t.Errorf("Packages.own lacks %q:\n%s", want, own)
		}
	}
	r, err := gzip.NewReader(bytes.NewReader(files["dists/x/main/binary-amd64/Packages.gz"]))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(r); err != nil || "own"+string(plain) != own {
		t.Errorf("Packages.gz has %q (%v)", plain, err)
	}
	if sources := string(files["dists/x/main/source/Sources.own"]); !strings.Contains(sources, "\nDirectory: src/\n") {
		t.Errorf("Sources.own: %s", sources)
	}
	for _, name := range []string{"odd/h.deb", "src/tool_1.dsc", "src/tool_1.tar.xz"} {
		if files[name] == nil {
			t.Errorf("the archive has no %s", name)
		}
	}
	block, _ := clearsign.Decode(files["dists/x/InRelease"])
	sum := testarchive.Sum(testarchive.SHA256, []byte(own))
	if text := string(block.Plaintext); !strings.HasSuffix(text, " 00 7 odd\n") || !strings.Contains(text, sum) {
		t.Errorf("the signed Release: %s", text)
	}
	keyring, err := openpgp.ReadKeyRing(bytes.NewReader(a.Keyring()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := block.VerifySignature(keyring, nil); err != nil {
		t.Errorf("the altered Release is not signed: %v", err)
	}
}
