package suite

import "time"

// Freshness is what this node knows of upstream's freshness: when it was asked last, and with what
// result. The machine owns it; a Belief carries a copy.
type Freshness struct {
	// Tried is when upstream or the leader was last asked, with whatever result; TriedFresh is when
	// upstream itself was last asked.
	Tried, TriedFresh Mono
	// Ended is when the last check was over, with whatever it brought adopted.
	Ended Mono
	// Own is this node's own last question to upstream.
	Own Mono
	// Good is when upstream was last known to have nothing newer than the current root, whichever
	// node asked.
	Good Mono
	// Announced is the newest value of Good that another node announced and that was new to this
	// node.
	Announced Mono
}

func never() Freshness { return Freshness{Never, Never, Never, Never, Never, Never} }

func (f *Freshness) tried(now Mono, fresh bool) {
	f.Tried = now
	if fresh {
		f.TriedFresh = now
	}
}

// since is how long ago Tried was; with fresh, TriedFresh.
func (f *Freshness) since(now Mono, fresh bool) time.Duration {
	if fresh {
		return now.Sub(f.TriedFresh)
	}
	return now.Sub(f.Tried)
}

// fresh reports whether the current generation may be served without asking upstream first. What an
// answer brings may take long to stage: hosts wait for it, but not longer than wait.
func (f *Freshness) fresh(now Mono, interval, wait time.Duration) bool {
	recent := 2*interval + 5*time.Second
	if now.Sub(max(f.Ended, f.Announced)) < recent {
		return true
	}
	answered := now.Sub(f.Tried)
	return wait <= answered && answered < recent
}

// unchecked reports whether upstream has been silent for longer than a check that failed would
// explain.
func (f *Freshness) unchecked(now Mono, interval time.Duration) bool {
	return now.Sub(f.Good) > 3*interval+10*time.Second
}
