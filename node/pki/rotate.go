package pki

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// What changes in the directory of a cluster while its nodes run: certificates before they end, and the
// gossip key. The files are then copied to the nodes.

// RenewNodes issues new certificates, with new private keys, for nodes in the
// directory of a cluster; no names mean all. It returns the nodes that it renewed.
func RenewNodes(dir string, nodes []string) ([]string, error) {
	known, err := clusterNodes(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range nodes {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s has no node %s; there are %s", dir, name, strings.Join(known, ", "))
		}
	}
	if len(nodes) == 0 {
		nodes = known
	}
	authority, err := readAuthority(dir)
	if err != nil {
		return nil, err
	}
	for i, name := range nodes {
		certPEM, keyPEM, err := authority.issue(name)
		if err != nil {
			return nodes[:i], err
		}
		home := filepath.Join(dir, name)
		if err := replace(filepath.Join(home, keyFile), keyPEM, 0o600); err != nil {
			return nodes[:i], err
		}
		if err := replace(filepath.Join(home, certFile), certPEM, 0o644); err != nil {
			return nodes[:i], err
		}
	}
	return nodes, nil
}

// The steps of putting a new gossip key in the place of the old one. After each the
// file goes to every node, and every node reloads, before the next step: so at any
// moment all nodes understand what any node sends.
const (
	RotateAdd  = "add"  // all learn to decrypt with a new key
	RotateUse  = "use"  // all encrypt with it
	RotateDrop = "drop" // all forget the old one
)

// rotationNote begins the comment of a gossip key file that says which step the rotation is at. The keys alone do not
// say which of them is new.
const rotationNote = "# A rotation is under way; its last step was: "

// RotateGossipKey takes one step in the directory of a cluster and in those of its
// nodes there. The steps can only be taken in their order: every other order would bring the old key back.
func RotateGossipKey(dir, step string) error {
	master := filepath.Join(dir, gossipKeyFile)
	keys, err := ReadGossipKeys(master)
	if err != nil {
		return err
	}
	next, err := nextStep(master, len(keys))
	switch {
	case !slices.Contains([]string{RotateAdd, RotateUse, RotateDrop}, step):
		return fmt.Errorf("%q is none of the steps: %s, %s, %s", step, RotateAdd, RotateUse, RotateDrop)
	case err != nil:
		return err
	case step != next && len(keys) == 1:
		return fmt.Errorf("%s holds one key, so the next step is %s", master, next)
	case step != next:
		return fmt.Errorf("%s holds %d keys, so a rotation is under way; the next step is %s", master, len(keys), next)
	}
	note := rotationNote + step + "\n"
	switch step {
	case RotateAdd:
		k, err := newGossipKey()
		if err != nil {
			return err
		}
		keys = append(keys, k)
	case RotateUse:
		slices.Reverse(keys)
	case RotateDrop:
		keys, note = keys[:1], ""
	}
	nodes, err := clusterNodes(dir)
	if err != nil {
		return err
	}
	text := append([]byte(note), gossipKeyText(keys...)...)
	for _, home := range append(nodes, ".") {
		if err := replace(filepath.Join(dir, home, gossipKeyFile), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// nextStep is the step that a file with so many keys needs next.
func nextStep(file string, keys int) (string, error) {
	if keys == 1 {
		return RotateAdd, nil
	}
	text, err := readFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		switch strings.TrimSpace(strings.TrimPrefix(line, rotationNote)) {
		case RotateAdd:
			return RotateUse, nil
		case RotateUse:
			return RotateDrop, nil
		}
	}
	return "", fmt.Errorf("%s holds %d keys and does not say which is new: put the one to keep first and remove the others by hand", file, keys)
}

func newGossipKey() ([]byte, error) {
	k := make([]byte, gossipKeyBytes)
	_, err := rand.Read(k)
	return k, err
}

// gossipKeyText is the file that ReadGossipKeys reads.
func gossipKeyText(keys ...[]byte) []byte {
	var b bytes.Buffer
	b.WriteString("# Gossip keys: the first encrypts, all decrypt.\n")
	for _, k := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	}
	return b.Bytes()
}
