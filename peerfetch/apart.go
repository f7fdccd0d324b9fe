package peerfetch

import (
	"time"

	"github.com/aptmesh/aptmesh/proto/expiring"
)

// apartFor is how long an archive shares no flight with others.
const apartFor = 10 * time.Minute

// apart remembers which archives gave wrong bytes in a flight that readers of another archive
// followed, so that their transfers broke. One archive can do that to others once in apartFor. Safe
// for concurrent use.
type apart struct {
	set *expiring.Map[string, struct{}]
}

func newApart() apart { return apart{expiring.New[string, struct{}](maxRecent)} }

func (a apart) note(archives []string) {
	now := time.Now()
	for _, archive := range archives {
		a.set.Set(archive, struct{}{}, now, now.Add(apartFor))
	}
}

func (a apart) has(archive string) bool {
	if a.set.Len() == 0 {
		return false
	}
	_, ok := a.set.Get(archive, time.Now())
	return ok
}
