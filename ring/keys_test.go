package ring

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/memberlist"
)

func testKey(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 16) }

// TestRotate goes from any keys to any others, while somebody reads the keyring, as
// memberlist does without a lock.
func TestRotate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	some := func() [][]byte {
		var keys [][]byte
		for _, i := range rnd.Perm(6)[:1+rnd.IntN(5)] {
			keys = append(keys, testKey(i))
		}
		return keys
	}
	keys := some()
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			for _, key := range ring.GetKeys() {
				if len(key) != 16 || key[0] != key[15] {
					t.Error("not a key")
				}
			}
			if ring.GetPrimaryKey() == nil {
				t.Error("no key to encrypt with")
			}
		}
	})
	for range 500 {
		next := some()
		if err := rotate(ring, next); err != nil {
			t.Fatal(err)
		}
		held := ring.GetKeys()
		if !bytes.Equal(held[0], next[0]) || len(held) != len(next) ||
			slices.ContainsFunc(next, func(k []byte) bool { return !contains(held, k) }) {
			t.Fatalf("%v became %v", next, held)
		}
	}
	close(done)
	group.Wait()
}

func TestSetKeysRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		open := c.start(c.config("open", addr(0)))
		cfg := c.config("closed", addr(1))
		cfg.Keys = [][]byte{testKey(1)}
		closed := c.start(cfg)
		if err := open.SetKeys([][]byte{testKey(1)}); err == nil {
			t.Error("encryption switched on")
		}
		if err := open.SetKeys(nil); err != nil {
			t.Error(err)
		}
		if err := closed.SetKeys(nil); err == nil {
			t.Error("encryption switched off")
		}
		if err := closed.SetKeys([][]byte{testKey(1), make([]byte, 17)}); err == nil {
			t.Error("a key of 17 bytes")
		}
	})
}

// TestKeysBelongToTheCaller wipes keys after giving them.
func TestKeysBelongToTheCaller(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		keys := [][]byte{testKey(1)}
		ms := c.many(2, func(_ int, cfg *Config) { cfg.Keys = [][]byte{bytes.Clone(keys[0])} })
		next := [][]byte{testKey(2), testKey(1)}
		if err := ms[0].SetKeys(next); err != nil {
			t.Fatal(err)
		}
		clear(next[0])
		clear(next[1])
		if held := ms[0].keyring.GetKeys(); !bytes.Equal(held[0], testKey(2)) || !bytes.Equal(held[1], testKey(1)) {
			t.Errorf("held: %v", held)
		}
	})
}
