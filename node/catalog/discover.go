package catalog

import (
	"context"
	"encoding/hex"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// Discover says what a location means where Resolve cannot: it may read a suite's
// Release for the first time, wait for an index that is being read, or look for
// one that lists the file. With fresh it asks upstream about a root first, though
// at most once a second per suite. A location that nothing signed names comes
// back as an unlisted entry, without an error.
//
// Errors: proto.ErrNotFound where upstream has no such root, proto.ErrCorrupt
// where it is not trusted, *proto.Unavailable where it cannot be read now, or the
// error of ctx. Safe for concurrent use.
func (c *Catalog) Discover(ctx context.Context, loc proto.Location, fresh bool) (proto.Entry, error) {
	if _, ok := c.archive(loc.Archive); !ok {
		return proto.Entry{}, errUnknownArchive
	}
	dir, name, root := aptmeta.SplitRoot(loc.Path)
	if !fresh || !root {
		// What Resolve missed may have become known since.
		if e, ok := c.Resolve(loc); ok {
			return e, nil
		}
	}
	if root {
		return c.discoverRoot(ctx, proto.Suite{Archive: loc.Archive, Dir: dir}, name, fresh)
	}
	if e := c.unlisted(loc); e.Listed { // its name proves it: little to wait for
		c.findSuite(ctx, loc)
		c.waitLoaded(ctx, loc.Archive)
		if e, ok := c.Resolve(loc); ok {
			return e, nil
		}
		return e, nil
	}
	wait, cancel := context.WithTimeout(ctx, c.cfg.FindWait)
	defer cancel()
	c.find(wait, loc)
	if err := ctx.Err(); err != nil {
		return proto.Entry{}, context.Cause(ctx)
	}
	if e, ok := c.Resolve(loc); ok {
		return e, nil
	}
	c.metrics.unlisted.Inc()
	e := c.unlisted(loc)
	c.recall(ctx, &e)
	return e, nil
}

// waitLoaded waits until the superseded generations have been read back after a
// start.
func (c *Catalog) waitLoaded(ctx context.Context, archive string) {
	var loading []chan struct{}
	c.mu.Lock()
	for id, s := range c.suites {
		if id.Archive == archive && s.isLoading() {
			loading = append(loading, s.loading)
		}
	}
	c.mu.Unlock()
	for _, l := range loading {
		select {
		case <-l:
		case <-ctx.Done():
			return
		}
	}
}

// unlisted is the entry of a file that no generation held names. A by-hash name
// vouches for its content by itself, unless some archive is not for everybody: the
// content may be one of that archive's.
func (c *Catalog) unlisted(loc proto.Location) proto.Entry {
	e := proto.Entry{Want: proto.Want{Where: []proto.Location{loc}, Class: proto.ClassPackage}, Mutable: true}
	e.Want.Ref.Size = proto.UnknownSize
	if _, hash, sum, ok := aptmeta.ParseByHash(loc.Path); ok && !c.anyRestricted() {
		e.Want.Class = proto.ClassMetadata
		switch hash {
		case aptmeta.SHA256:
			e.Want.Ref.Digest, _ = proto.ParseDigest(sum) // ParseByHash has checked the digits
		case aptmeta.SHA512:
			hex.Decode(e.Want.SHA512[:], []byte(sum))
		}
		if e.Want.Provable() {
			e.Listed, e.Mutable = true, false
			return e
		}
	}
	switch aptmeta.Classify(loc.Path) {
	case aptmeta.KindIndex, aptmeta.KindByHash, aptmeta.KindPatch:
		e.Want.Class = proto.ClassMetadata
	}
	return e
}

// discoverRoot answers for InRelease, Release or Release.gpg. It answers from the
// view, like every request: what a check has brought is in it when the check ends.
func (c *Catalog) discoverRoot(ctx context.Context, id proto.Suite, name string, fresh bool) (proto.Entry, error) {
	s, ok := c.suite(id)
	if !ok {
		return proto.Entry{}, errUnknownArchive
	}
	now := c.cfg.Now()
	s.noteAsked(now)
	v := c.viewOf(id)
	held := v != nil
	hoped := held && name == "InRelease" && v.current.detached() && s.sinceTry(now, false) >= missingInRelease
	if !held || !s.offline() && (fresh || hoped || !s.fresh(now)) {
		if err := s.checkNow(ctx, held, fresh); err != nil && ctx.Err() != nil {
			return proto.Entry{}, context.Cause(ctx)
		}
	}
	if v = c.viewOf(id); v == nil {
		err := s.sentence()
		c.forget(s)
		return proto.Entry{}, err
	}
	v.suite.ask(now)
	if err := v.suite.withheld(v.current, c.cfg.Now()); err != nil {
		return proto.Entry{}, err
	}
	var e proto.Entry
	if v.root(&e, name, c.cfg.Now()) {
		return e, nil
	}
	if name == "InRelease" {
		return proto.Entry{}, proto.ErrNotFound // the archive signs with Release.gpg only
	}
	if err := v.suite.fetchPair(ctx); err != nil {
		return proto.Entry{}, err
	}
	if v = c.viewOf(id); v != nil {
		if v.root(&e, name, c.cfg.Now()) {
			return e, nil
		}
	}
	return proto.Entry{}, &proto.Unavailable{Reason: id.String() + " has changed at this moment", RetryAfter: time.Second}
}

// missingInRelease is how old a check may be for an InRelease to be called not
// found: apt takes that for final, and it may have been missing for a moment.
const missingInRelease = 10 * time.Second

// forget drops a suite that turned out not to exist, so that requests for
// arbitrary names leave nothing behind. One that could not be read just now is
// dropped too: the next request makes it again. It is kept for a second, so that
// its last result answers a burst of requests.
func (c *Catalog) forget(s *suite) {
	if !s.configured() {
		time.AfterFunc(time.Second, func() { c.reap(s) })
	}
}

// reap drops a suite that nothing is known of and nobody waits for.
func (c *Catalog) reap(s *suite) {
	if s.configured() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	// Whoever waits for a running check calls forget again.
	if s.current == nil && s.running == nil && !s.listening && !s.watching && c.suites[s.id] == s {
		delete(c.suites, s.id)
		s.cancel()
	}
}

// searchRounds bounds a search: an archive offers an index in at most seven forms.
const searchRounds = 8

// find does what can be done to have loc listed: it reads the suite that the path
// lies in, waits for what is being read, and then reads the indices that would
// list such a file. It stops as soon as the file is known.
func (c *Catalog) find(ctx context.Context, loc proto.Location) {
	c.findSuite(ctx, loc)
	c.checkConfigured(loc.Archive)
	for range searchRounds {
		if c.settle(ctx, loc.Archive) != nil {
			return
		}
		if _, ok := c.Resolve(loc); ok {
			return
		}
		started := c.search(loc)
		if len(started) == 0 {
			return
		}
		for _, in := range started {
			select {
			case <-in.done:
			case <-ctx.Done():
				return
			}
		}
	}
}

// checkConfigured looks at upstream for suites that are to be watched from the
// start and have not been read yet, because upstream was down then.
func (c *Catalog) checkConfigured(archive string) {
	a, _ := c.archive(archive)
	now := c.cfg.Now()
	for _, dir := range a.Suites {
		s, ok := c.known(proto.Suite{Archive: archive, Dir: dir})
		if ok && s.held() == nil && s.sinceTry(now, false) >= checkPause {
			s.startCheck(false)
		}
	}
}

// findSuite makes sure that the suite around a path below dists/ has been read.
// A by-hash name needs no suite to be answered, so nobody waits for it then; but
// what the index lists is wanted soon.
func (c *Catalog) findSuite(ctx context.Context, loc proto.Location) {
	if a, ok := c.view.Load().archives[loc.Archive]; ok {
		if s, _ := a.find(loc.Path); s != nil {
			return
		}
	}
	guesses := aptmeta.GuessSuiteDirs(loc.Path)
	switch kind := aptmeta.Classify(loc.Path); {
	case kind == aptmeta.KindOther:
		return
	case kind == aptmeta.KindPackage && !strings.Contains("/"+loc.Path, "/pool/"):
		guesses = []string{parent(loc.Path)} // of a flat repository, perhaps
	}
	guesses = guesses[:min(len(guesses), 3)]
	if len(guesses) == 0 {
		return
	}
	if _, hash, _, ok := aptmeta.ParseByHash(loc.Path); !ok || hash < aptmeta.SHA256 {
		c.guessSuite(ctx, loc.Archive, guesses)
		return
	}
	at := proto.Location{Archive: loc.Archive, Path: guesses[0]}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, busy := c.finding[at]; busy || len(c.finding) >= maxFinding {
		return
	}
	started := c.spawn(func() {
		ctx, cancel := context.WithTimeout(c.ctx, c.cfg.FindWait)
		defer cancel()
		c.guessSuite(ctx, loc.Archive, guesses)
		c.Resolve(loc) // notes the use, and so reads what the index lists
		c.mu.Lock()
		delete(c.finding, at)
		c.mu.Unlock()
	})
	if started {
		c.finding[at] = struct{}{}
	}
}

// parent is the directory of a path, "" for the archive's root.
func parent(path string) string {
	return path[:max(strings.LastIndexByte(path, '/'), 0)]
}

// maxFinding bounds the searches for suites that go on in the background.
const maxFinding = 64

// guessSuite reads the first of the guesses that has a Release. Guesses that
// turned out wrong are not repeated for a while.
func (c *Catalog) guessSuite(ctx context.Context, archive string, guesses []string) {
	for _, dir := range guesses {
		id := proto.Suite{Archive: archive, Dir: dir}
		if c.failedLately(rootThing(id)) {
			continue
		}
		_, err := c.discoverRoot(ctx, id, "InRelease", false)
		if c.viewOf(id) != nil || !errors.Is(err, proto.ErrNotFound) {
			return // found, or upstream is in trouble, which the next guess would be too
		}
		c.noteFailed(rootThing(id), err)
	}
}

// search starts reading the indices that should list loc and have not been read.
func (c *Catalog) search(loc proto.Location) []*ingest {
	a, ok := c.view.Load().archives[loc.Archive]
	if !ok {
		return nil
	}
	var started []*ingest
	for _, s := range a.suites {
		for _, m := range c.candidates(s, loc.Path) {
			started = append(started, c.takeIn(s.suite, s.current, m, true))
		}
	}
	return started
}

// candidates are the members whose files a path may be among and that have not
// been read or tried: one compression of each. They follow from how archives are
// laid out: pool/<component>/… and …_<architecture>.deb.
func (c *Catalog) candidates(s *suiteView, loc string) []*member {
	g, id := s.current, s.suite.id
	if !id.Flat() && id.Base() != "" && !strings.HasPrefix(loc, id.Base()+"/") {
		return nil
	}
	component := g.componentOf(loc)
	switch aptmeta.Classify(loc) {
	case aptmeta.KindPackage:
		udeb := strings.HasSuffix(loc, ".udeb")
		for _, arch := range g.architecturesFor(architectureOf(loc)) {
			found, read := c.unread(s, func(dir, name string) bool {
				return name == "Packages" && (id.Flat() || path.Base(dir) == "binary-"+arch && inComponent(dir, component) && strings.Contains(dir, "/debian-installer/") == udeb)
			})
			if len(found) > 0 || read {
				return found
			}
		}
		return nil
	case aptmeta.KindSource:
		found, _ := c.unread(s, func(dir, name string) bool {
			return name == "Sources" && (id.Flat() || inComponent(dir, component))
		})
		return found
	case aptmeta.KindPatch:
		diff := strings.TrimPrefix(path.Dir(loc), id.Dir+"/")
		found, _ := c.unread(s, func(dir, name string) bool { return name == "Index" && dir == diff })
		return found
	case aptmeta.KindInstaller:
		found, _ := c.unread(s, func(dir, name string) bool {
			return name == "SHA256SUMS" && strings.HasPrefix(loc, id.At(dir).Path+"/")
		})
		return found
	}
	return nil
}

// unread picks the indices of g that wanted names, by directory and plain name,
// and that have neither been read nor failed lately. read reports whether one of
// those named has been read.
func (c *Catalog) unread(s *suiteView, wanted func(dir, name string) bool) (found []*member, read bool) {
	best := make(map[string]*member)
	done := make(map[string]bool)
	for p, m := range s.current.members {
		if !m.provable() || m.ref.Size == 0 || aptmeta.IndexKindOf(p) == aptmeta.NotAnIndex {
			continue
		}
		plain, ext := aptmeta.TrimCompression(p)
		if !wanted(strings.TrimPrefix(path.Dir("/"+plain), "/"), path.Base(plain)) {
			continue
		}
		if c.isRead(s.current, p) {
			done[plain], read = true, true
		}
		if c.failedLately(s.suite.thing(m)) {
			continue
		}
		if old, ok := best[plain]; !ok || preference(ext) < preference(extOf(old.path)) {
			best[plain] = m
		}
	}
	for plain, m := range best {
		if !done[plain] {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(x, y *member) int { return strings.Compare(x.path, y.path) })
	return found, read
}

func (c *Catalog) isRead(g *generation, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, ok := g.staged[name]
	return ok && st.List != ""
}

func extOf(p string) string {
	_, ext := aptmeta.TrimCompression(p)
	return ext
}

// preference orders compressions: what archives carry most reliably first; the
// plain form is listed by nearly all and kept by few.
func preference(ext string) int {
	if i := slices.Index([]string{".xz", ".gz", ".zst", ".bz2", ".lzma", "", ".lz4"}, ext); i >= 0 {
		return i
	}
	return 99
}

// architectureOf reads the architecture of a package file name.
func architectureOf(loc string) string {
	name := path.Base(loc)
	name = strings.TrimSuffix(name, path.Ext(name))
	return name[strings.LastIndexByte(name, '_')+1:]
}

// architecturesFor names the architectures whose index may list a package of
// arch, best first. Packages for all of them stand in every index, or in some
// archives in one of their own.
func (g *generation) architecturesFor(arch string) []string {
	if arch != "all" {
		return []string{arch}
	}
	var own, common, others []string
	for _, a := range g.release.architectures {
		switch {
		case a == "all" && g.release.noAll:
		case a == "all":
			own = append(own, a)
		case a == "amd64" || a == "arm64":
			common = append(common, a)
		default:
			others = append(others, a)
		}
	}
	return slices.Concat(own, common, others)
}

// componentOf finds the component that a pool path belongs to, "" for unknown.
func (g *generation) componentOf(loc string) string {
	_, pool, ok := strings.Cut("/"+loc, "/pool/")
	if !ok {
		return ""
	}
	for _, c := range g.release.components {
		name := c[strings.LastIndexByte(c, '/')+1:] // "updates/main" of old security suites
		if strings.HasPrefix(pool, name+"/") || strings.Contains(pool, "/"+name+"/") {
			return name
		}
	}
	return ""
}

// inComponent reports whether the index in dir belongs to the component.
func inComponent(dir, component string) bool {
	return component == "" || strings.HasPrefix(dir, component+"/") || strings.Contains(dir, "/"+component+"/")
}

// Refresh asks upstream about a suite at once, though at most once a second, and
// waits for the outcome; what upstream had when it was called is seen. older
// lets an older Release in, which only an operator may ask for. changed reports
// whether another generation is served now.
func (c *Catalog) Refresh(ctx context.Context, id proto.Suite, older bool) (changed bool, err error) {
	if _, ok := c.archive(id.Archive); !ok {
		return false, errUnknownArchive
	}
	s, ok := c.suite(id)
	if !ok {
		return false, errUnknownArchive
	}
	before := s.held()
	err = s.checkSince(ctx, func() *check { return s.newCheck(true, older) }, false)
	after := s.held()
	if after == nil {
		c.forget(s)
		return false, errors.Join(err, s.sentenceIfNil(err))
	}
	s.ask(c.cfg.Now())
	return before == nil || before.Root != after.Root, err
}

func (s *suite) sentenceIfNil(err error) error {
	if err != nil {
		return nil
	}
	return s.sentence()
}
