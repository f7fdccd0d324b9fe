package peerfetch

import (
	"context"
	"time"
)

// firstSlice is how long a place of one archive may bring next to nothing before that of another
// archive is asked instead; twice as long each time that it was left. A place that makes progress
// is never left.
const firstSlice = time.Second

// pace watches an attempt at a target: whether it brings something while another target waits.
type pace struct {
	cut    context.CancelCauseFunc
	target *target
	mark   int64 // written at the last look
	timer  *time.Timer
}

// watch makes the context of an attempt at p. It ends with errSlow if p makes almost no progress
// and another archive may do better. So no archive can delay clients that know the object by the
// name of another archive.
func (fl *flight) watch(p *target) (ctx context.Context, done func()) {
	ctx, cut := context.WithCancelCause(fl.ctx)
	w := &pace{cut: cut, target: p, mark: fl.body.written}
	fl.mu.Lock()
	p.asked = true
	fl.pace = w
	fl.startPaceLocked()
	fl.mu.Unlock()
	return ctx, func() {
		fl.mu.Lock()
		fl.pace = nil
		if w.timer != nil {
			w.timer.Stop()
		}
		fl.mu.Unlock()
		cut(nil)
	}
}

// startPaceLocked begins to watch the pace of the attempt under way, once there is another target.
// The caller holds mu.
func (fl *flight) startPaceLocked() {
	w := fl.pace
	if w == nil || w.timer != nil || len(fl.targets.all) < 2 || !fl.object.Provable() || len(fl.object.Others) > 0 {
		return
	}
	slice := min(firstSlice<<min(w.target.left, 5), 30*time.Second)
	w.mark = fl.written
	w.timer = time.AfterFunc(slice, func() {
		fl.mu.Lock()
		defer fl.mu.Unlock()
		if fl.pace != w {
			return
		}
		if fl.written-w.mark < progress && fl.targets.alternative(w.target, time.Now()) {
			w.cut(errSlow)
			return
		}
		w.mark = fl.written
		w.timer.Reset(slice)
	})
}
