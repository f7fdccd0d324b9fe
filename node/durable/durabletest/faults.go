// Package durabletest is a disk that fails on demand, for the tests of rooms that
// write through package durable. It fails one named call; it does not simulate what a
// power cut leaves behind.
package durabletest

import (
	"errors"
	"os"
	"sync"

	"github.com/aptmesh/aptmesh/node/durable"
)

// ErrDead is the error of every call after the process has "died".
var ErrDead = errors.New("the process is dead")

// FS is the real file system, except that named steps fail, or that every call from
// some moment on does, as if the process had been killed there. It remembers the
// steps. The zero value never fails. It is safe for concurrent use.
type FS struct {
	durable.OS
	mu    sync.Mutex
	fail  map[string]error // by step
	armed bool             // DieAfter was called
	left  int              // calls that still pass
	dead  bool             // a call came after the last of them
	steps []string
}

// Break has every call of that step fail from now on, and no other step.
func (f *FS) Break(step string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = map[string]error{step: err}
}

// Heal ends what Break and DieAfter began.
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.armed, f.dead = nil, false, false
}

// DieAfter lets n calls pass; every call after them fails and changes nothing.
func (f *FS) DieAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.left, f.dead = true, n, false
}

// Dead reports whether a call came after the last one that DieAfter let pass.
func (f *FS) Dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// Steps returns the steps since the last call of Steps.
func (f *FS) Steps() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	steps := f.steps
	f.steps = nil
	return steps
}

// Note records a step and returns the error that it is to have; for calls that are
// not part of durable.FS.
func (f *FS) Note(step string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps = append(f.steps, step)
	if f.armed && f.left == 0 {
		f.dead = true
		return ErrDead
	}
	f.left--
	return f.fail[step]
}

// Create implements durable.FS.
func (f *FS) Create(step, name string) (*os.File, error) {
	if err := f.Note(step); err != nil {
		return nil, err
	}
	return f.OS.Create(step, name)
}

// Write keeps half of what it cannot keep all of, as a full disk does.
func (f *FS) Write(step string, file *os.File, p []byte) (int, error) {
	if err := f.Note(step); err != nil {
		n, _ := f.OS.Write(step, file, p[:len(p)/2])
		return n, err
	}
	return f.OS.Write(step, file, p)
}

// Sync implements durable.FS.
func (f *FS) Sync(step string, file *os.File) error {
	if err := f.Note(step); err != nil {
		return err
	}
	return f.OS.Sync(step, file)
}

// Rename implements durable.FS.
func (f *FS) Rename(step, from, to string) error {
	if err := f.Note(step); err != nil {
		return err
	}
	return f.OS.Rename(step, from, to)
}

// SyncDir implements durable.FS.
func (f *FS) SyncDir(step, name string) error {
	if err := f.Note(step); err != nil {
		return err
	}
	return f.OS.SyncDir(step, name)
}

// Remove implements durable.FS.
func (f *FS) Remove(step, name string) error {
	if err := f.Note(step); err != nil {
		return err
	}
	return f.OS.Remove(step, name)
}
