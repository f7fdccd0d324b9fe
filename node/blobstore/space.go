package blobstore

import (
	"github.com/dustin/go-humanize"

	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// space counts the bytes of blobs. used+reserved+partial ≤ max holds at every moment,
// unless the operator lowered max below what was there.
type space struct {
	max int64
	// pending is what is reserved and not yet written: the file system does not
	// know of it.
	pending atomic.Int64

	mu       sync.Mutex
	used     int64 // blobs; an upper bound until the scan is done
	known    int64 // blobs in the index; equals used once the scan is done
	reserved int64 // blobs on their way in
	partial  int64 // unfinished blobs that nobody writes (partial.go)
	bound    int64 // used+reserved+partial on disk: never less than the truth
}

// take reserves n bytes if they fit, unless the ledger must be raised first.
func (sp *space) take(n int64) (fits, raise bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	total := sp.total() + n
	switch {
	case n > 0 && total > sp.max:
		return false, false
	case total > sp.bound:
		return true, true
	}
	sp.reserved += n
	sp.pending.Add(n)
	return true, false
}

// short returns how many bytes are lacking for n more.
func (sp *space) short(n int64) int64 {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.total() + n - sp.max
}

// total is all that counts against the limit. The caller holds mu.
func (sp *space) total() int64 { return sp.used + sp.reserved + sp.partial }

// park makes an unfinished blob of size bytes out of a reservation.
func (sp *space) park(reserved, size int64) {
	sp.pending.Add(size - reserved)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.reserved -= reserved
	sp.partial += size
}

// taken gives the bytes of an unfinished blob to a writer.
func (sp *space) taken(size int64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.partial -= size
	sp.reserved += size
}

// dropped counts an unfinished blob that is no more.
func (sp *space) dropped(size int64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.partial -= size
}

func (sp *space) wrote(n int64) { sp.pending.Add(-n) }

// commit turns a reservation into a blob of size bytes.
func (sp *space) commit(reserved, size int64, added bool) {
	sp.pending.Add(size - reserved)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.reserved -= reserved
	if added {
		sp.used += size
		sp.known += size
	}
}

// found counts a blob that was there already, which the estimate of used
// includes.
func (sp *space) found(size int64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.known += size
	sp.used = max(sp.used, sp.known)
}

func (sp *space) lost(size int64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.known -= size
	sp.used -= size
}

// settle ends the estimate: the scan has seen every blob.
func (sp *space) settle() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.used = sp.known
}

func (sp *space) totals() (used, reserved, partial int64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.used, sp.reserved, sp.partial
}

// scanPatience is how long a reservation waits for the scan to find something
// that can be evicted. It matters only in the first moments of a full store; a
// client is waiting for its first byte meanwhile.
const scanPatience = 2 * time.Second

// fits returns an error for a blob that is larger than the limit. A large one is also refused
// beforehand where too much is pinned; counting what is pinned is too much work for a small one, of
// which that shows when it is written.
func (s *Store) fits(size int64) error {
	if size > s.space.max {
		return fmt.Errorf("%w: a file of %s is larger than the whole store (%s): %s", proto.ErrNoSpace, bytesOf(size), bytesOf(s.space.max), s.remedy(size))
	}
	if size <= s.space.max/evictBatch || !s.scan.done() {
		return nil
	}
	if pinned, _ := s.pinnedBytes(); pinned+size > s.space.max {
		return s.full(fmt.Sprintf("a file of %s does not fit: the store may have %s, and %s are in use for good (pinned); %s", bytesOf(size), bytesOf(s.space.max), bytesOf(pinned), s.remedy(pinned+size)), func() bool { return s.mayFit(size) })
	}
	return nil
}

// remedy is what makes a store of that size possible: a greater limit, or a greater disk where the limit is all that the
// disk has.
func (s *Store) remedy(size int64) string {
	used, reserved, partial := s.space.totals()
	free, err := s.fs.Free(s.dirs.root)
	if most := used + reserved - s.space.pending.Load() + partial + free - s.cfg.ReserveFree; err == nil && size > most {
		return fmt.Sprintf("its file system has room for %s in all (%s), so a larger one is needed for `data`", bytesOf(most), s.dirs.root)
	}
	return "raise cache.max_size"
}

// reserve takes n bytes of the limit, evicting where need be. rest is how many bytes of the blob
// are still to come, those n among them, and own how many are reserved for it: nothing is evicted for a
// blob that will not fit all the same.
func (s *Store) reserve(n, rest, own int64) error {
	if n > s.space.max {
		return s.fits(n)
	}
	if err := s.checkFree(n, rest); err != nil {
		return err
	}
	deadline := time.Now().Add(scanPatience)
	for {
		progress := s.scan.progress()
		fits, raise := s.space.take(n)
		switch {
		case raise:
			if err := s.raiseLedger(n); err != nil {
				return err
			}
		case fits:
			return nil
		case !(s.mayFit(rest) && s.makeRoom(n)) && !s.waitForScan(progress, deadline):
			used, reserved, _ := s.space.totals()
			var room func() bool // where files cannot be removed, only a write tells
			if !s.mayFit(rest) {
				room = func() bool { return s.mayFit(rest) }
			}
			pinned, _ := s.pinnedBytes()
			why := fmt.Sprintf("%s are still to come of a file; of %s that the store may have, %s are in use, %s of them pinned, and %s reserved by transfers in progress; %s",
				bytesOf(rest), bytesOf(s.space.max), bytesOf(used), bytesOf(pinned), bytesOf(reserved), s.remedy(pinned+reserved+rest))
			if room != nil && pinned+own+rest <= s.space.max {
				// It fits when the transfers have ended: the store keeps the next file.
				s.busy(why)
				return fmt.Errorf("%w: %s", proto.ErrNoSpace, why)
			}
			return s.full(why, room)
		}
	}
}

// mayFit reports whether rest more bytes would fit if all went that may go.
func (s *Store) mayFit(rest int64) bool {
	if !s.scan.done() {
		return true // nobody knows yet
	}
	pinned, _ := s.pinnedBytes()
	_, reserved, _ := s.space.totals()
	return pinned+reserved+rest <= s.space.max
}

// pinnedBytes returns what is stored and pinned or held: its bytes, and how many blobs it is.
func (s *Store) pinnedBytes() (bytes int64, blobs int) {
	held := s.pins.holding()
	for _, d := range s.pins.pinned() {
		if e := s.index.shard(d).get(d); e != nil && (held == nil || !held.Has(d)) {
			bytes += e.size
			blobs++
		}
	}
	more, many := s.heldBytes.of(s, held)
	return bytes + more, blobs + many
}

// heldBytes remembers for a moment how much of the held set is stored: it may be a hundred thousand blobs, and a
// full store asks for each step of each transfer. What was stored since is counted a moment late, which costs an
// eviction that does not free enough.
type heldBytes struct {
	mu    sync.Mutex
	until time.Time // guarded by mu, as what follows
	bytes int64
	blobs int
}

const heldBytesFor = time.Second

func (h *heldBytes) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = time.Time{}
}

func (h *heldBytes) of(s *Store, held Held) (bytes int64, blobs int) {
	if held == nil {
		return 0, 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.until) {
		return h.bytes, h.blobs
	}
	h.bytes, h.blobs = 0, 0
	for d := range held.All() {
		if e := s.index.shard(d).get(d); e != nil {
			h.bytes += e.size
			h.blobs++
		}
	}
	h.until = time.Now().Add(heldBytesFor)
	return h.bytes, h.blobs
}

// reserveSpare takes n bytes of the limit if they are free anyway.
func (s *Store) reserveSpare(n int64) bool {
	if lacking, _ := s.lacking(n); lacking > 0 {
		return false
	}
	fits, raise := s.space.take(n)
	if raise && s.raiseLedger(n) == nil {
		fits, raise = s.space.take(n)
	}
	return fits && !raise
}

// checkFree sees to it that the file system has room for n more bytes and still
// keeps ReserveFree. Where others have filled it, the store exchanges old blobs
// for new ones, but does not shrink to make up for them.
// rest is what is still to come of the blob: that much may go at once, so that victims need not be
// chosen for each step.
func (s *Store) checkFree(n, rest int64) error {
	lacking, _ := s.lacking(n)
	if lacking <= 0 {
		return nil
	}
	if s.freePartials(lacking) > 0 {
		if lacking, _ = s.lacking(n); lacking <= 0 {
			return nil
		}
	}
	batch := max(n, min(rest, s.space.max/evictBatch))
	s.evicting.Lock()
	freed := s.evict(min(lacking, n), min(lacking+batch-n, batch))
	s.evicting.Unlock()
	lacking, free := s.lacking(n)
	if lacking <= 0 || freed >= n && free >= n+s.space.pending.Load() {
		return nil
	}
	return s.full(fmt.Sprintf("%s do not fit on the file system of %s, which has %s left: %s stay free, and transfers in progress need %s; free %s on it, or lower cache.max_size",
		bytesOf(n), s.dirs.root, bytesOf(free), bytesOf(s.cfg.ReserveFree), bytesOf(s.space.pending.Load()), bytesOf(lacking)), func() bool {
		lacking, _ := s.lacking(n)
		return lacking <= 0
	})
}

// bytesOf writes a number of bytes for people.
func bytesOf(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// lacking returns how many bytes of the file system must become free before n
// more may be reserved, and how many are.
func (s *Store) lacking(n int64) (lacking, free int64) {
	if n == 0 {
		return 0, 0
	}
	free, err := s.fs.Free(s.dirs.root)
	if err != nil {
		return 0, 0 // writing fails when such a file system is full
	}
	return n + s.space.pending.Load() + s.cfg.ReserveFree - free, free
}

func (s *Store) full(why string, room func() bool) error {
	s.health.fail(s.log, s.cfg.Now(), why, room)
	return fmt.Errorf("%w: %s", proto.ErrNoSpace, why)
}

// busy logs that a file was not kept because of transfers in progress. The store is not degraded by that.
func (s *Store) busy(why string) {
	if now, last := s.cfg.Now().UnixNano(), s.busyLogged.Load(); now-last >= int64(logEvery) && s.busyLogged.CompareAndSwap(last, now) {
		s.log.Warn("a file was not kept: clients got it, and the next request fetches it again", "reason", why)
	}
}

// release gives back a reservation of which written bytes had arrived.
func (s *Store) release(reserved, written int64) {
	s.space.pending.Add(written - reserved)
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.space.reserved -= reserved
}

// ledger is the file that holds space.bound. After a crash it is all that is
// known of the bytes in use until the scan is done, so it must never say too
// little: it is raised, durably and in steps, before the bytes are reserved.
type ledger struct{ mu sync.Mutex }

// ledgerSteps is into how many steps the limit is cut: that many durable writes
// while a store fills up, and that small a part of it overestimated after a crash.
const ledgerSteps = 256

func (s *Store) ledgerStep() int64 { return s.space.max/ledgerSteps + 1 }

// openLedger sets the estimate to begin with. A directory that holds blobs and no
// ledger may be full.
func (s *Store) openLedger(isNew bool) error {
	estimate := s.space.max
	text, err := s.readNote(ledgerName)
	if isNew && errors.Is(err, fs.ErrNotExist) {
		return s.writeLedger(0)
	}
	if err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n >= 0 {
			estimate = n
		}
	}
	s.space.used, s.space.bound = max(0, estimate-s.space.partial), max(estimate, s.space.partial)
	return nil
}

// raiseLedger makes room in the bound for n more bytes, and some to come. The file
// goes first, so that it never says less than what may be reserved.
func (s *Store) raiseLedger(n int64) error {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	s.space.mu.Lock()
	need := s.space.total() + n
	enough := need <= s.space.bound // somebody else has raised it
	s.space.mu.Unlock()
	if enough {
		return nil
	}
	bound := max(need, min(need+s.ledgerStep(), s.space.max))
	if err := s.writeLedger(bound); err != nil {
		return s.cannotKeep("note the bytes in use", err)
	}
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.space.bound = bound
	return nil
}

// lowerLedger brings the bound down to the truth plus slack. The file goes last;
// should it not be writable, it goes on saying more.
func (s *Store) lowerLedger(slack int64) error {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	s.space.mu.Lock()
	bound := s.space.total() + slack
	lower := bound < s.space.bound
	if lower {
		s.space.bound = bound
	}
	s.space.mu.Unlock()
	if !lower {
		return nil
	}
	return s.writeLedger(bound)
}

func (s *Store) writeLedger(bound int64) error {
	return s.writeNote("ledger", ledgerName, []byte(strconv.FormatInt(bound, 10)+"\n"))
}

func (s *Store) closeLedger() error { return s.lowerLedger(0) }
