package upstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// floorWindow is the time spent reading over which a transfer must reach the rate
	// floor: long enough for a hiccup, short enough for waiting clients.
	floorWindow = 4 * time.Second
	// sampleEvery is the time spent reading after which a transfer's rate is noted.
	sampleEvery = time.Second
)

// errSlow is inside the error of a transfer that was below the rate floor.
var errSlow = errors.New("below the rate floor")

// pace is what a body brings for the time spent reading. Time that its caller or the
// rate limit took is no part of it.
type pace struct {
	window, sample stretch
}

// stretch is a part of a body.
type stretch struct {
	bytes int64
	spent time.Duration
}

func (s *stretch) rate() float64 { return float64(s.bytes) / s.spent.Seconds() }

// count adds a read.
func (p *pace) count(n int, spent time.Duration) {
	for _, s := range []*stretch{&p.window, &p.sample} {
		s.bytes += int64(n)
		s.spent += spent
	}
}

// measure makes what the body has brought lately part of what is known of its mirror,
// when there is enough of it, or no more to come.
func (b *body) measure(ended bool) {
	if lately := b.pace.sample; ended || lately.spent >= sampleEvery {
		b.pace.sample = stretch{}
		b.x.attempt.mirror.health.received(lately.bytes, lately.spent)
	}
}

func (h *health) received(n int64, spent time.Duration) {
	h.mu.Lock()
	h.speed.received(n, spent, time.Now())
	h.mu.Unlock()
}

// tooSlow reports whether the body should rather go on from another mirror: it was
// below the rate floor for a window, has longer than that to go, and there is another
// mirror that is believed to do better. rate is what it brought in the window.
func (b *body) tooSlow() (rate float64, slow bool) {
	if b.pace.window.spent < floorWindow {
		return 0, false
	}
	rate = b.pace.window.rate()
	b.pace.window = stretch{}
	left := float64(b.want - b.got)
	switch {
	case rate >= float64(b.x.s.cfg.RateFloor):
		return 0, false
	case b.want >= 0 && left < rate*floorWindow.Seconds():
		return 0, false
	}
	return rate, b.x.client.better(b.x.attempt, rate)
}

// slower is the error for a transfer that is below the rate floor.
func (x *exchange) slower(rate float64) error {
	return &proto.Unavailable{
		Reason: fmt.Sprintf("%s%s gave only %.0f bytes per second, the rate floor is %d; another mirror may do better",
			x.host.name, x.via(), rate, x.s.cfg.RateFloor),
		Err: errSlow,
	}
}
