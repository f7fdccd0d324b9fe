package ring

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

func checkKeys(keys [][]byte) error {
	for i, key := range keys {
		if err := memberlist.ValidateKey(key); err != nil {
			return fmt.Errorf("gossip key %d of %d has %d bytes: must be 16, 24 or 32", i+1, len(keys), len(key))
		}
	}
	return nil
}

// newKeyring returns nil without keys: then nothing is encrypted.
func newKeyring(keys [][]byte) (*memberlist.Keyring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	own := make([][]byte, len(keys))
	for i, key := range keys {
		own[i] = bytes.Clone(key)
	}
	return memberlist.NewKeyring(own, own[0])
}

// SetKeys replaces the keys: from now on the first encrypts, and all decrypt. To
// change the key of a running cluster without a loss, give every node {old, new},
// then {new, old}, then {new}. Encryption cannot be switched on or off.
func (m *Members) SetKeys(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	if (m.keyring == nil) != (len(keys) == 0) {
		return errors.New("gossip encryption cannot be switched on or off while the node runs")
	}
	if m.keyring == nil {
		return nil
	}
	m.rekeying.Lock()
	defer m.rekeying.Unlock()
	own := make([][]byte, len(keys))
	for i, key := range keys {
		own[i] = bytes.Clone(key)
	}
	return rotate(m.keyring, own)
}

// rotate brings a keyring that is in use from what it holds to keys, by AddKey,
// UseKey and RemoveKey. At no point is there no key to encrypt with, nor one that
// is neither an old nor a new first.
//
// RemoveKey closes the gap in the slice that readers of the keyring may be going
// through, a data race in memberlist, unless the key is the last. So keys are only
// ever taken from the end. Keys to be kept that stand behind one to be dropped are
// taken off and added again; in between, for microseconds, they do not decrypt.
// The three steps of a rotation never come to that.
func rotate(ring *memberlist.Keyring, keys [][]byte) error {
	if err := ring.AddKey(keys[0]); err != nil {
		return err
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	installed := ring.GetKeys()
	stays := 0 // how many of the installed keys stay, from the front
	for stays < len(installed) && contains(keys, installed[stays]) {
		stays++
	}
	for _, key := range slices.Backward(installed[stays:]) {
		if err := ring.RemoveKey(key); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := ring.AddKey(key); err != nil { // nothing if it is installed already
			return err
		}
	}
	return nil
}

func contains(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}
