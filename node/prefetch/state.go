package prefetch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"time"
)

// State keeps small files under names. WriteFile is durable and atomic; an absent
// file is fs.ErrNotExist.
type State interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error)
}

const (
	stateFile = "prefetch/uses"
	saveEvery = 5 * time.Minute
)

// The file is a line that names the format, 16 bytes for each use, and a CRC-32 of
// all before it.
const (
	stateMagic = "aptmesh uses 1\n"
	useBytes   = 16
)

func (u *usage) marshal() []byte {
	b := append(make([]byte, 0, len(stateMagic)+u.len()*useBytes+4), stateMagic...)
	for i := range u.shards {
		s := &u.shards[i]
		s.mu.Lock()
		for key, use := range s.uses {
			b = binary.BigEndian.AppendUint64(b, key)
			b = binary.BigEndian.AppendUint32(b, use.slot)
			b = binary.BigEndian.AppendUint32(b, math.Float32bits(use.heat))
		}
		s.mu.Unlock()
	}
	return sealed(b)
}

func sealed(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }

// unmarshal fills an empty table. A use after now, from a time when the clock was
// wrong, counts as one now: it would never grow old.
func (u *usage) unmarshal(b []byte, now uint32) error {
	n := len(b) - len(stateMagic) - 4
	if n < 0 || n%useBytes != 0 || string(b[:len(stateMagic)]) != stateMagic {
		return errors.New("it is no table of uses")
	}
	sum := len(b) - 4
	if crc32.ChecksumIEEE(b[:sum]) != binary.BigEndian.Uint32(b[sum:]) {
		return errors.New("its checksum is wrong")
	}
	for b = b[len(stateMagic):sum]; len(b) > 0; b = b[useBytes:] {
		key := binary.BigEndian.Uint64(b)
		use := use{slot: min(binary.BigEndian.Uint32(b[8:]), now), heat: math.Float32frombits(binary.BigEndian.Uint32(b[12:]))}
		s := u.shard(key)
		if use.heat > 0 && use.heat <= math.MaxFloat32 && len(s.uses) < shardUses {
			s.uses[key] = use
		}
	}
	return nil
}

// load reads the table back. What cannot be read is no loss but of knowledge: it is
// learnt again.
func (p *Prefetcher) load() {
	b, err := p.cfg.State.ReadFile(stateFile)
	if err == nil {
		err = p.usage.unmarshal(b, slotOf(p.cfg.Now()))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("what clients have used could not be read back; it is learnt anew", "file", stateFile, "error", err)
	}
}

// save writes the table down if it has changed.
func (p *Prefetcher) save() error {
	if !p.usage.changed.Swap(false) {
		return nil
	}
	if err := p.cfg.State.WriteFile(stateFile, p.usage.marshal()); err != nil {
		p.usage.changed.Store(true)
		return fmt.Errorf("write down what clients have used: %w", err)
	}
	return nil
}

// saveNowAndThen runs until Close.
func (p *Prefetcher) saveNowAndThen() {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := p.save(); err != nil {
				p.log.Warn("after a restart, what clients have used since is not known", "error", err)
			}
		case <-p.ctx.Done():
			return
		}
	}
}
