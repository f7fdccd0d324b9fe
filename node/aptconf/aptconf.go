package aptconf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// maxFile bounds how much of one sources file is read; a longer one is refused.
const maxFile = 4 << 20

// Archive is one archive that the machine's apt uses: all its entries with the
// same base URL together.
type Archive struct {
	// Name is short, a valid URL path segment, and unique in a Sources.
	Name string
	// URL is the base, http or https, without credentials or trailing slash; or that
	// of a list of mirrors, as ListURL spells it.
	URL string
	// Aliases are other URLs known to mean the same archive; the host may begin
	// with "*.".
	Aliases []string
	// Suites are as apt is told them: "noble", or a directory ending in "/" for a
	// flat repository; $(ARCH) is replaced. Components are those of all suites.
	Suites     []string
	Components []string
	// SignedBy holds paths of keyrings below the root that was read, and armoured
	// key blocks. Where the entries name none it holds apt's default keyrings, of which
	// one is a directory and ends in "/", and DefaultKeys is true.
	SignedBy    []string
	DefaultKeys bool
	// Fingerprints are the keys the entries narrow their keyrings down to.
	Fingerprints []string
	// Trusted are those of Suites that apt takes without a signature.
	Trusted []string
	// Private says that an entry carries credentials in its URL.
	Private bool
	// Where is the place of the first entry, "file:line".
	Where string

	known Known // zero where it is none of Debian's or Ubuntu's
}

// Notice says what was skipped, or accepted with a reservation, and why.
type Notice struct {
	Where  string // "file:line"
	What   string // the URI or the text in question
	Reason string
}

func (n Notice) String() string {
	if n.What == "" {
		return fmt.Sprintf("%s: %s", n.Where, n.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", n.Where, n.What, n.Reason)
}

// Sources is all that Read found.
type Sources struct {
	Archives []Archive // in apt's order of preference
	Notices  []Notice
	// Loops counts the entries passed over because they lead to this node.
	Loops int
}

// Options says which files Read reads.
type Options struct {
	// Root is the directory that takes the place of "/"; "" is "/".
	Root string
	// IsSelf reports whether a URL leads to this very node, so that using it as
	// an upstream would be a loop; nil means that none does.
	IsSelf func(*url.URL) bool
	// Arch is the Debian architecture $(ARCH) stands for; "" is this machine's.
	Arch string
}

// Read reads the machine's sources. Files that do not exist count as empty; one
// that cannot be read, and an entry that cannot be understood, becomes a Notice.
// The error is for a directory that exists and cannot be listed.
func Read(o Options) (*Sources, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Arch == "" {
		o.Arch = debianArch(runtime.GOARCH)
	}
	r := &reader{Options: o, found: &Sources{}}

	files, err := r.sourceFiles()
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, name := range files {
		entries = append(entries, r.readFile(name)...)
	}
	for _, e := range entries {
		r.add(e)
	}
	r.addDefaultKeys()
	nameAll(r.found.Archives)
	return r.found, nil
}

// entry is one source as either format gives it.
type entry struct {
	where      string
	uri        string
	suites     []string
	components []string
	signedBy   []string // paths, fingerprints and key blocks, as written
	trusted    bool
}

// reader gathers Sources.
type reader struct {
	Options
	found *Sources
}

func (r *reader) notice(where, what, reason string) {
	r.found.Notices = append(r.found.Notices, Notice{where, what, reason})
}

// sourceFiles lists the files in the order apt reads them: the directory's files
// come after sources.list, by name.
func (r *reader) sourceFiles() ([]string, error) {
	files := []string{"/etc/apt/sources.list"}
	const dir = "/etc/apt/sources.list.d"
	list, err := os.ReadDir(filepath.Join(r.Root, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing apt's sources: %w", err)
	}
	for _, e := range list {
		if !e.IsDir() && validFileName(e.Name()) {
			files = append(files, dir+"/"+e.Name())
		}
	}
	return files, nil
}

// validFileName is apt's rule for files in sources.list.d; it ignores the others,
// which are mostly backups.
func validFileName(name string) bool {
	if ext := filepath.Ext(name); ext != ".list" && ext != ".sources" {
		return false
	}
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return !strings.HasPrefix(name, ".")
}

func (r *reader) readFile(name string) []entry {
	text, err := readBounded(filepath.Join(r.Root, name))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.notice(name, "", "cannot be read: "+err.Error())
		}
		return nil
	}
	if strings.HasSuffix(name, ".sources") {
		return parseDeb822(name, text, r.notice)
	}
	return parseOneLine(name, text, r.notice)
}

func readBounded(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("longer than %d bytes", maxFile)
	}
	return string(b), nil
}

// add merges an entry into the archive of its base URL.
func (r *reader) add(e entry) {
	expand := func(s string) string { return strings.ReplaceAll(s, "$(ARCH)", r.Arch) }
	base, err := r.base(e, expand(e.uri))
	if err != nil {
		r.notice(e.where, redact(e.uri), err.Error())
		return
	}
	if base.asked != nil && r.IsSelf != nil && r.IsSelf(base.asked) {
		r.found.Loops++
		r.notice(e.where, base.url, "leads to this node itself; as an upstream it would be a loop")
		return
	}

	a := r.archiveOf(base, e.where)
	a.Private = a.Private || base.private
	for _, s := range e.suites {
		a.Suites = appendNew(a.Suites, expand(s))
		if e.trusted {
			a.Trusted = appendNew(a.Trusted, expand(s))
		}
	}
	for _, c := range e.components {
		a.Components = appendNew(a.Components, c)
	}
	for _, key := range e.signedBy {
		r.addKey(a, key, e.where)
	}
}

// base is what an entry's URI says.
type base struct {
	url     string   // as Archive.URL
	asked   *url.URL // where a request for it would go; nil for a file
	known   Known    // zero where it is none of Debian's or Ubuntu's
	private bool
}

// base reads an entry's URI. The error says why aptmesh cannot serve it.
func (r *reader) base(e entry, uri string) (base, error) {
	if IsMirrorList(uri) {
		return r.list(e, uri)
	}
	u, private, err := parseBase(uri)
	if err != nil {
		return base{}, err
	}
	if asked, err := url.Parse(uri); err == nil && asked.Port() == cachePort && withoutScheme(Canonical(asked).String()) != withoutScheme(u.String()) {
		r.notice(e.where, redact(uri), "asks another cache; the node asks "+u.String()+" itself")
	}
	known, _ := Lookup(u.String())
	return base{url: u.String(), asked: u, known: known, private: private}, nil
}

// list reads the URI of a mirror list. A list on this machine is read: its entries show which
// archive it is for, and a list that cannot be used is no source.
func (r *reader) list(e entry, uri string) (base, error) {
	at, err := ParseListURL(uri)
	if err != nil {
		return base{}, err
	}
	if at.URL != nil {
		known, _ := Lookup(at.String())
		return base{url: at.String(), asked: at.URL, known: known}, nil
	}
	if !filepath.IsAbs(at.File) {
		return base{}, errors.New("is not the absolute path of a list of mirrors")
	}
	at.File = filepath.Join(r.Root, at.File)
	text, err := readBounded(at.File)
	if err != nil {
		return base{}, fmt.Errorf("is a list of mirrors that cannot be read: %w", err)
	}
	mirrors, _, err := ParseMirrorList(at.File, []byte(text))
	if err != nil {
		return base{}, err
	}
	b := base{url: at.String()}
	for _, m := range mirrors {
		if known, ok := Lookup(m.URL.String()); ok {
			b.known = known
			break
		}
	}
	return b, nil
}

// archiveOf returns the archive of a base, which it appends if it is new. Scheme and
// country mirror make no difference: they are the same archive, and the URL named
// first is the one used, except that https takes the place of http.
func (r *reader) archiveOf(b base, where string) *Archive {
	for i := range r.found.Archives {
		a := &r.found.Archives[i]
		if a.URL == b.url {
			return a
		}
		if !IsMirrorList(a.URL) && withoutScheme(a.URL) == withoutScheme(b.url) {
			if strings.HasPrefix(b.url, "https:") {
				a.URL = b.url
			}
			return a
		}
		if b.known.Name != "" && a.known.Name == b.known.Name {
			r.notice(where, b.url, "is the same archive as "+a.URL+", which is used for both")
			return a
		}
	}
	r.found.Archives = append(r.found.Archives, Archive{
		URL: b.url, Aliases: b.known.aliasesFor(b.url), Where: where, known: b.known,
	})
	return &r.found.Archives[len(r.found.Archives)-1]
}

// addKey takes one word or block of Signed-By.
func (r *reader) addKey(a *Archive, key, where string) {
	switch {
	case isKeyBlock(key):
		a.SignedBy = appendNew(a.SignedBy, key)
	case strings.HasPrefix(key, "/"):
		a.SignedBy = appendNew(a.SignedBy, filepath.Join(r.Root, key))
	case isFingerprint(key):
		a.Fingerprints = appendNew(a.Fingerprints, strings.ToUpper(key))
	default:
		r.notice(where, key, "is neither the absolute path of a keyring nor a fingerprint; Signed-By ignores it")
	}
}

// addDefaultKeys gives apt's default keyrings to the archives that name none.
// sources.list(5): "If no keyring files are specified the default is the
// trusted.gpg keyring and all keyrings in the trusted.gpg.d/ directory".
func (r *reader) addDefaultKeys() {
	var keyrings []string
	// apt makes an empty trusted.gpg on some systems.
	trusted, parts := filepath.Join(r.Root, "/etc/apt/trusted.gpg"), filepath.Join(r.Root, "/etc/apt/trusted.gpg.d")
	if info, err := os.Stat(trusted); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
		keyrings = append(keyrings, trusted)
	}
	if info, err := os.Stat(parts); err == nil && info.IsDir() {
		keyrings = append(keyrings, parts+"/")
	}
	for i := range r.found.Archives {
		a := &r.found.Archives[i]
		if len(a.SignedBy) == 0 {
			a.SignedBy, a.DefaultKeys = slices.Clone(keyrings), true
		}
		if len(a.Fingerprints) > 0 {
			r.notice(a.Where, a.URL, "Signed-By names single keys; any key of the keyrings is accepted here, while apt on the hosts goes on to check for those")
		}
	}
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// debianArch is Debian's name of an architecture of Go.
func debianArch(goarch string) string {
	switch goarch {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "ppc64le":
		return "ppc64el"
	case "mips64le":
		return "mips64el"
	}
	return goarch
}
