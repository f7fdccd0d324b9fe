package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/proto"
)

// offerOf is news of these bytes, as a node would tell it that lies about the date.
func offerOf(root []byte, date time.Time) proto.Announcement {
	g := proto.Generation{Suite: noble(), Statement: proto.DigestOf(root), Date: date, RootName: "InRelease", Root: refOfBytes(root), Modified: date}
	if m, err := deb.New(deb.Config{Unsigned: true}).Open(noble(), map[string][]byte{"InRelease": root}, date); err == nil {
		g.Statement = m.Statement
	}
	return proto.Announcement{Generation: g, Checked: time.Now(), FirstHand: true}
}

// What a node tells is believed as far as the archive's signature goes, and whoever
// tells more is named.
func TestHostilePeer(t *testing.T) {
	evil := testarchive.NewKey("evil", testarchive.KeyOptions{})
	for name, lie := range map[string]func(f *fleet) []byte{
		"garbage":  func(*fleet) []byte { return []byte("<html>It works!</html>") },
		"unsigned": func(f *fleet) []byte { return f.nodes[0].file("dists/noble/Release") },
		"another key": func(f *fleet) []byte {
			return testarchive.ClearSign(f.nodes[0].file("dists/noble/Release"), time.Now(), evil)
		},
		"tampered": func(f *fleet) []byte {
			return []byte(strings.Replace(string(f.nodes[0].file(nobleIn)), "main", "evil", 1))
		},
		"older": func(f *fleet) []byte { return f.foreign[proto.Digest{1}] },
		"another suite": func(f *fleet) []byte {
			f.a.AddPackage("jammy", testarchive.Package{Name: "x", Version: "1"})
			f.a.Publish(time.Now().Add(-time.Second), "jammy")
			return f.nodes[0].file("dists/jammy/InRelease")
		},
		"future": func(f *fleet) []byte {
			f.a.AddPackage("noble", testarchive.Package{Name: "x", Version: "1"})
			f.a.Prepare(time.Now().Add(48 * time.Hour))
			f.a.Show("noble", testarchive.At(2))
			root := f.nodes[0].file(nobleIn)
			f.a.Show("noble", testarchive.At(1))
			return root
		},
		"other bytes, signed": func(f *fleet) []byte {
			f.a.AddPackage("noble", testarchive.Package{Name: "x", Version: "1"})
			f.a.Prepare(time.Now().Add(-time.Second))
			f.a.Show("noble", testarchive.At(2))
			f.foreign[proto.DigestOf([]byte("told"))] = f.nodes[0].file(nobleIn)
			f.a.Show("noble", testarchive.At(1))
			return []byte("told")
		},
		"nothing there": func(*fleet) []byte { return nil },
		"other bytes": func(f *fleet) []byte {
			f.foreign[proto.DigestOf([]byte("told"))] = []byte("given")
			return []byte("told")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFleet(t, 3, testarchive.Suite{Name: "noble", ByHash: true}, testarchive.Suite{Name: "jammy", ByHash: true})
				f.publish()
				f.foreign[proto.Digest{1}] = f.nodes[0].file(nobleIn)
				f.start()
				for _, n := range f.nodes {
					n.use(nobleIn, noblePkgs)
				}
				f.settled(5 * time.Minute)
				f.upgrade("2")
				f.settled(2 * time.Minute)
				f.agree(noblePkgs)
				f.forget()

				root := lie(f)
				told := offerOf(root, time.Now().Add(24*time.Hour))
				told.Generation.Statement = proto.DigestOf(root) // it claims to be something new
				if root != nil && f.foreign[told.Generation.Root.Digest] == nil {
					f.set(func() { f.foreign[told.Generation.Root.Digest] = root })
				}
				asks := 0
				if name == "another suite" {
					asks = 16
				}
				f.endures(told, asks)
			})
		})
	}
}

// endures has a node lied to for ten minutes, again and again. It goes by nothing of it, names the liar, asks upstream
// no more often than that because of it, and follows what is published meanwhile as fast as ever.
func (f *fleet) endures(told proto.Announcement, asks int) {
	f.Helper()
	victim := f.nodes[2]
	before := victim.metric("aptmesh_suite_announcements_total")
	start := time.Now()
	for time.Since(start) < 10*time.Minute {
		told.Checked = time.Now() // or upstream may have been asked as late for what is held
		victim.Receive("n9", told)
		time.Sleep(time.Second)
	}
	f.settled(0)
	f.agree(f.index()) // (the archive shows at its paths what is right)
	opened := victim.openings(told.Generation.Root.Digest)
	warned := strings.Join(victim.warnings(), "\n")
	if opened > 20 {
		f.Errorf("the root was opened %d times in 10 minutes", opened)
	}
	if strings.Count(warned, "nodes=[n9]") != 1 || !strings.Contains(warned, "not believed") {
		f.Errorf("the liar is not named, or too often:\n%s", warned)
	}
	if e := victim.must(f.root); e.Stale != "" {
		f.Errorf("stale: %q", e.Stale)
	}
	if n := victim.metric("aptmesh_suite_announcements_total") - before; n < 600 || n > 700 {
		f.Errorf("%v counted", n)
	}
	if n := victim.up.requests(f.root); n > asks {
		f.Errorf("the lie made it ask upstream %d times", n)
	}
	// Nobody is kept by it from following the others.
	stop := make(chan bool)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
			more := told
			garbage := fmt.Appendf(nil, "garbage %d", i)
			more.Generation.Root, more.Generation.Statement = refOfBytes(garbage), proto.DigestOf(garbage)
			more.Generation.Date = time.Now().Add(time.Duration(i) * time.Hour)
			for _, n := range f.nodes {
				n.Receive("n9", told, more)
			}
		}
	}()
	f.upgrade("3")
	time.Sleep(70 * time.Second)
	f.agree(f.index())
	close(stop)
	f.settled(time.Second)
	if k := len(victim.suiteNames()); k != 1 {
		f.Errorf("%d suites", k)
	}
}

// told is what a node tells of a root with these files beside it, as of a day ahead, so that it is the newest.
func (f *fleet) told(root []byte, beside map[string][]byte) proto.Announcement {
	tomorrow := time.Now().Add(24 * time.Hour)
	g := proto.Generation{Suite: f.suite, Statement: proto.DigestOf(root), Date: tomorrow, RootName: strings.TrimPrefix(f.root, f.suite.Dir+"/"), Root: refOfBytes(root), Modified: tomorrow}
	for path, data := range beside {
		g.Companions = append(g.Companions, proto.Companion{Name: strings.TrimPrefix(path, f.suite.Dir+"/"), Ref: refOfBytes(data), Modified: tomorrow, Proof: true})
		f.set(func() { f.foreign[proto.DigestOf(data)] = data })
	}
	f.set(func() { f.foreign[proto.DigestOf(root)] = root })
	return proto.Announcement{Generation: g, FirstHand: true}
}

// The same for roots with a signature beside them, of all formats.
func TestHostilePeerOfEachFormat(t *testing.T) {
	evil := testarchive.NewKey("evil", testarchive.KeyOptions{})
	for name, lie := range map[string]func(f *fleet, k kind, first publication) proto.Announcement{
		"a page": func(f *fleet, _ kind, _ publication) proto.Announcement {
			return f.told([]byte("<html>It works!</html>"), nil)
		},
		"unsigned": func(f *fleet, k kind, _ publication) proto.Announcement {
			return f.told(k.published(66, nil).files[k.root], nil)
		},
		"another key": func(f *fleet, k kind, _ publication) proto.Announcement {
			p := k.published(66, evil)
			return f.told(p.files[k.root], map[string][]byte{k.signature: p.files[k.signature]})
		},
		"another signature": func(f *fleet, k kind, _ publication) proto.Announcement {
			return f.told(k.published(66, nil).files[k.root], map[string][]byte{k.signature: f.shown.files[k.signature]})
		},
		"tampered": func(f *fleet, k kind, _ publication) proto.Announcement {
			root := slices.Clone(f.shown.files[k.root])
			root[len(root)/2] ^= 1
			return f.told(root, map[string][]byte{k.signature: f.shown.files[k.signature]})
		},
		"older": func(f *fleet, k kind, first publication) proto.Announcement {
			return f.told(first.files[k.root], map[string][]byte{k.signature: first.files[k.signature]})
		},
		"nothing there": func(f *fleet, k kind, _ publication) proto.Announcement {
			told := f.told([]byte("x"), nil)
			f.set(func() { delete(f.foreign, told.Generation.Root.Digest) })
			return told
		},
		"other bytes": func(f *fleet, k kind, _ publication) proto.Announcement {
			told := f.told([]byte("told"), nil)
			f.set(func() { f.foreign[told.Generation.Root.Digest] = []byte("given") })
			return told
		},
	} {
		t.Run(name, func(t *testing.T) {
			overKinds(t, func(t *testing.T, k kind) {
				f := usedFleetOf(t, 3, k)
				first := f.shown
				f.upgrade("2")
				f.settled(2 * time.Minute)
				f.agree(f.index())
				f.forget()
				asks := 0
				if name == "older" && k.name == "pacman" {
					asks = 16 // a database has no date: upstream has to say which one is newer
				}
				f.endures(lie(f, k, first), asks)
			})
		})
	}
}

// A node that nothing is held on is told of a root that is none of this suite's.
func TestHostileFirstContact(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1, testarchive.Suite{Name: "noble"}, testarchive.Suite{Name: "noble-security", Codename: "noble",
			Fields: nil})
		f.publish()
		f.start()
		n := f.nodes[0]
		// As Ubuntu's: the Suite says which it is, the Codename is shared.
		root := testarchive.ClearSign([]byte(strings.Replace(string(n.file("dists/noble-security/Release")), "Suite: noble", "Suite: noble-security", 1)),
			time.Now(), testarchive.DefaultKey())
		told := offerOf(root, time.Now().Add(-time.Second))
		f.set(func() { f.foreign[told.Generation.Root.Digest] = root })
		n.Receive("n9", told)
		f.settled(time.Minute)
		n.listedAs(nobleIn, n.file(nobleIn))
		if len(n.warnings()) != 1 {
			t.Errorf("%q", n.warnings())
		}
	})
}

// What others tell takes up no more than so much.
func TestReceivingIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1)
		f.publish()
		f.start()
		n := f.nodes[0]
		n.must(nobleIn)
		f.settled(time.Second)
		var uses []string
		for i := range 3 * maxRemote {
			uses = append(uses, fmt.Sprintf("main/x%d/Packages", i))
		}
		for i := range 3 * suite.MaxAnnouncers {
			told := offerOf(fmt.Appendf(nil, "%d", i), time.Now().Add(time.Hour))
			if i < 5 {
				told.Slots = append([]string{"main/binary-amd64/Packages.xz"}, uses...)
			}
			n.Receive(fmt.Sprintf("n%d", i+10), told)
		}
		if n.othersUses() > 1 {
			t.Errorf("%d uses", n.othersUses())
		}
		for i := range 3 * maxUnknown {
			told := offerOf(fmt.Appendf(nil, "%d", i), time.Now())
			told.Generation.Suite.Dir = fmt.Sprintf("dists/none%d", i)
			told.Slots = uses[i*maxAnnounced/maxUnknown:]
			n.Receive("n9", told)
		}
		for _, dir := range []string{"../x", "/x", "a//b", "a/../b", "dists/\x00", strings.Repeat("x", 2000), "dists/binary-amd64/.."} {
			told := offerOf([]byte(dir), time.Now())
			told.Generation.Suite.Dir = dir
			n.Receive("n9", told)
			if _, err := n.ServeCheck(t.Context(), told.Generation.Suite, nil, true); err == nil {
				t.Errorf("asked about %q", dir)
			}
		}
		told := offerOf(nil, time.Now())
		told.Generation.Suite.Archive = "other"
		n.Receive("n9", told)
		if _, err := n.ServeCheck(t.Context(), told.Generation.Suite, nil, true); err == nil {
			t.Error("asked about an archive that is not configured")
		}
		suites := len(n.all(""))
		if suites > maxUnknown+1 {
			t.Errorf("%d suites", suites)
		}
		for range 3 * 64 {
			n.Receive("n9", make([]proto.Announcement, 100)...)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if k := len(n.suiteNames()); k != 1 {
			t.Errorf("%d suites are left", k)
		}
		n.listedAs(nobleIn, n.file(nobleIn))
	})
}

// A root that is larger than one may be is not even asked for.
func TestTooLargeAnOffer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 2)
		n := f.nodes[1]
		told := offerOf([]byte("x"), time.Now())
		told.Generation.Root.Size = aptmeta.MaxRelease + 1
		n.Receive("n9", told)
		f.settled(time.Second)
		if len(n.warnings()) != 1 || n.openings(told.Generation.Root.Digest) != 0 {
			t.Errorf("%q, opened %d times", n.warnings(), n.openings(told.Generation.Root.Digest))
		}
	})
}

// A lie about when upstream was looked at, or about the Last-Modified, keeps the node
// that leads from nothing, and the others not for ever.
func TestWrongReportsAboutUpstream(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 3)
		// Everybody is told all the time that there is nothing new.
		f.set(func() { f.every = time.Hour })
		current := f.nodes[0].Announcements()[0]
		lying := func(d time.Duration) {
			for start := time.Now(); time.Since(start) < d; time.Sleep(5 * time.Second) {
				told := current
				told.Checked = time.Now().Add(time.Hour)
				told.Generation.Modified = time.Now().Add(time.Hour)
				for _, n := range f.nodes {
					n.Receive("n9", told)
				}
			}
		}
		lying(2 * time.Minute)
		f.upgrade("2")
		lying(2 * time.Minute)
		f.agree(noblePkgs)
		if st := f.nodes[1].Stats()[0]; st.Checked.After(time.Now()) {
			t.Errorf("checked at %v", st.Checked)
		}

		// The one who leads does nothing but lie: the others look themselves in the end.
		current = f.nodes[0].Announcements()[0]
		f.nodes[0].stop()
		f.upgrade("3")
		lying(suite.AuditEvery + 5*time.Minute)
		f.agree(noblePkgs)
	})
}

// A Last-Modified that lies far ahead would tell clients for days that nothing has
// changed.
func TestImplausibleLastModified(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 2)
		n := f.nodes[1]
		f.upgrade("2")
		root := n.file(nobleIn)
		told := offerOf(root, time.Now().Add(-time.Second))
		told.Generation.Modified = time.Now().Add(48 * time.Hour)
		f.set(func() { f.foreign[proto.DigestOf(root)] = root })
		n.Receive("n9", told)
		f.settled(time.Second)
		if e := n.listedAs(nobleIn, root); e.Modified.After(time.Now()) {
			t.Errorf("Last-Modified %v", e.Modified)
		}
	})
}

// A node that never gives what it tells of holds the others up for a moment at most.
func TestStallingPeer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 3)
		n := f.nodes[2]
		stop := make(chan bool)
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
				told := offerOf(fmt.Appendf(nil, "%d", i), time.Now().Add(time.Duration(i)*time.Hour))
				f.set(func() { n.stall[told.Generation.Root.Digest] = true })
				n.Receive(fmt.Sprintf("m%d", i%4), told) // several of them
			}
		}()
		for i := range 10 {
			time.Sleep(time.Minute)
			f.upgrade(fmt.Sprint(i + 2))
			want := refOfBytes(n.file(nobleIn))
			for f.nodes[0].nobleNow().Root != want {
				time.Sleep(time.Second)
			}
			time.Sleep(announcedTimeout + time.Second)
			if n.nobleNow().Root != want {
				t.Errorf("%s has not followed", n.name)
			}
		}
		close(stop)
	})
}

// A node that tells of the right Release, but with another signature beside it, is in
// nobody's way.
func TestOtherSignature(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3, testarchive.Suite{Name: "noble", NoInRelease: true, ByHash: true})
		f.publish()
		f.start()
		n := f.nodes[2]
		n.must(nobleRelease)
		f.settled(5 * time.Minute)
		f.unlooked()
		f.set(func() { f.loss, f.gossip = 1, false })
		f.upgrade("2")
		f.nodes[0].refresh()
		told := f.nodes[0].Announcements()[0]
		evil := []byte("evil")
		told.Generation.Companions = []proto.Companion{{Name: "Release.gpg", Ref: refOfBytes(evil)}}
		f.set(func() { f.foreign[proto.DigestOf(evil)] = evil })
		n.Receive("n0", told)
		n.Receive("n1", f.nodes[0].Announcements()...)
		f.settled(time.Second)
		n.listedAs(nobleRelease, n.file(nobleRelease))
		for _, line := range n.warnings() {
			if !strings.Contains(line, "nodes=[n0]") {
				t.Error(line)
			}
		}
	})
}
