package node

import (
	"context"
	"time"
)

// keyringsEvery is how often the directories of signed_by are looked at.
const keyringsEvery = 2 * time.Second

// watchKeyrings takes up keyrings that appear in a directory of signed_by, change or go, without a reload.
func (n *Node) watchKeyrings() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(keyringsEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n.rereadKeyrings()
				n.saveMembers()
			case <-ctx.Done():
				return
			}
		}
	}()
	n.onStop("keyrings", func(context.Context) error {
		cancel()
		<-ended
		n.unsaved.Store(len(n.made()) > 0) // when they were last used
		n.saveMembers()
		return nil
	})
}

// rereadKeyrings puts the keyrings in force as they are now. If they cannot be read, those of before stay.
func (n *Node) rereadKeyrings() {
	n.mu.Lock()
	defer n.mu.Unlock()
	stamp := n.cfg.KeyringsStamp()
	if stamp == n.keyrings {
		return
	}
	n.keyrings = stamp
	archives, err := catalogArchives(n.cfg)
	if err != nil {
		n.log.Error("the keyrings in signed_by have changed and cannot be read; those of before stay in force", "error", err)
		return
	}
	n.catalog.Reconfigure(archives)
	n.log.Info("the keyrings in signed_by were read again")
}
