package differential

import (
	"bytes"
	"compress/gzip"
	"io"
	"strconv"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// paths are packages with awkward names: apt encodes some characters and leaves others
// (pkgAcquire::URIEncode), and every server decodes once.
func paths() []row {
	in := func(name, dir string) row {
		return row{name: "a path with " + name, packages: func(gen int) []testarchive.Package {
			return []testarchive.Package{
				{Name: "hello", Version: version(gen), Size: 4000, Path: dir + "/hello_" + version(gen) + "_amd64.deb"},
				{Name: "tool", Version: version(gen), Size: 100, Source: true, Path: dir},
			}
		}, sources: debSrc}
	}
	versioned := row{name: "a version with all that a version may have", packages: func(gen int) []testarchive.Package {
		v := "3:1.0+b~rc1-" + strconv.Itoa(gen) + "ubuntu0.1~22.04+x"
		return []testarchive.Package{
			{Name: "hello", Version: v, Size: 4000}, {Name: "lib+x-1.2", Version: v, Size: 10},
			{Name: "tool", Version: v, Size: 100, Source: true},
		}
	}, sources: debSrc, debs: []string{"hello", "lib+x-1.2"}}
	colon := row{name: "a file name with the epoch", packages: func(gen int) []testarchive.Package {
		v := "1:" + version(gen)
		return []testarchive.Package{{Name: "hello", Version: v, Size: 4000, Path: "pool/hello_" + v + "_amd64.deb"}}
	}}
	encodedColon := row{name: "a file name with the epoch encoded", packages: func(gen int) []testarchive.Package {
		v := version(gen)
		return []testarchive.Package{{Name: "hello", Version: "1:" + v, Size: 4000, Path: "pool/hello_1%3a" + v + "_amd64.deb"}}
	}}
	long := ""
	for range 20 {
		long += "/a-directory-with-a-long-name-of-forty-characters"
	}
	return []row{
		versioned, colon, encodedColon,
		in("plus and tilde", "pool/c++~1"), in("a space", "pool/a b"), in("a caret", "pool/a^b"), in("an at sign", "pool/@scope"),
		in("a colon", "pool/a:b"), in("UTF-8", "pool/größe/東京"), in("a percent sign", "pool/100%"), in("a percent sign and digits", "pool/a%20b"),
		in("an encoded slash", "pool/a%2fb"), in("a capital encoding", "pool/a%2Bb"), in("an equals sign", "pool/a=b"), in("an ampersand", "pool/a&b"),
		in("a comma", "pool/a,b"), in("a semicolon", "pool/a;b"), in("a hash sign", "pool/a#b"),
		in("quotes", `pool/"a'b"`), in("brackets", "pool/[a](b){c}<d>"), in("an exclamation mark", "pool/a!b$c*d"), in("a bar", "pool/a|b`c"),
		in("capitals", "Pool/MAIN/Hello"), in("dots", "pool/...a..b..."), in("900 characters", "pool"+long),
		in("Latin-1", "pool/gr\xf6\xdfe"),
	}
}

func gunzip(b []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		panic(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	return text
}

func itoa(n int) string { return strconv.Itoa(n) }
