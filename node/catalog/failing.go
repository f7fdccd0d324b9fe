package catalog

import (
	"errors"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// maxFailing bounds the suites that are remembered as failing.
const maxFailing = 64

// failingSuite is why a client did not get the root of a suite that has no generation.
type failingSuite struct {
	err   error
	since time.Time // of the failures in a row
}

// rememberFailure keeps the error of a request for the root of a suite that has no generation. The
// suite itself may be dropped soon. The memory is for status only: requests are not answered from it.
// A suite that a client asked for and did not get stays failing until it works, or until no client
// has asked for it for Config.IdleAfter. Safe for concurrent use.
func (c *Catalog) rememberFailure(id proto.Suite, err error) {
	if d, ok := c.known(id); ok && d.public.Load().current != nil {
		return
	}
	now := c.cfg.Now()
	c.failing.Update(id, now, func(f failingSuite, ok bool) (failingSuite, time.Time) {
		if !ok {
			f.since = now.UTC()
		}
		f.err = err
		return f, now.Add(c.cfg.IdleAfter)
	})
}

// failedBefore adds to the status of a suite without a generation what is remembered of it.
func (c *Catalog) failedBefore(st *SuiteStats) {
	f, ok := c.failing.Get(st.Suite, c.cfg.Now())
	if !ok || !st.Date.IsZero() {
		return
	}
	if st.Err == nil {
		st.Err, st.Failing = f.err, f.since
	}
	if f.since.Before(st.Failing) {
		st.Failing = f.since
	}
}

// onlyFailing are the suites that only their failure is remembered of.
func (c *Catalog) onlyFailing() []SuiteStats {
	var all []SuiteStats
	c.failing.Each(c.cfg.Now(), func(id proto.Suite, f failingSuite) {
		if c.archive(id.Archive) == nil || c.Knows(id) {
			return
		}
		all = append(all, SuiteStats{Suite: id, Err: f.err, Failing: f.since})
	})
	return all
}

// failureBefore is the remembered failure of a suite that has no generation; nil for none.
func (c *Catalog) failureBefore(id proto.Suite) error {
	if d, ok := c.known(id); ok && d.public.Load().current != nil {
		return nil
	}
	f, _ := c.failing.Get(id, c.cfg.Now())
	return f.err
}

// rejectedBefore is the remembered refusal of the suite that an index lies in; nil for none.
func (c *Catalog) rejectedBefore(conf *Archive, path string) error {
	for _, id := range conf.Format.Suites(path) {
		id.Archive = conf.Name
		if err := c.failureBefore(id); errors.As(err, new(*proto.Rejected)) {
			return err
		}
	}
	return nil
}
