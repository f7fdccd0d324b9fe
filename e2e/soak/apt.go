package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// forward is an address that real apt can be given: what connects to it is passed on
// to the node that hosts are routed to at that moment.
func forward(ctx context.Context, nodes []*node) (addr string, wait func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { pass(ctx, c, route(nodes, 0).Addr) })
		}
	})
	return l.Addr().String(), all.Wait, nil
}

// pass copies both ways until one side ends.
func pass(ctx context.Context, c net.Conn, to string) {
	defer c.Close()
	other, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer other.Close()
	stop := context.AfterFunc(ctx, func() { c.Close(); other.Close() })
	defer stop()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, other}, {other, c}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // which side ended it does not matter
			way[0].Close()
			way[1].Close()
		})
	}
	both.Wait()
}

// lies are what apt says when what it was given does not fit together.
var lies = regexp.MustCompile(`Hash Sum mismatch|unexpected size|BADSIG|invalid signature|not signed`)

// aptLoop has a real apt update and download until the context ends. It returns at
// once where there is no apt.
func aptLoop(ctx context.Context, at string, a *archive, l *ledger, rnd *rand.Rand) error {
	if !lab.HaveApt() {
		return nil
	}
	apt, err := lab.NewApt(a.Keyring(), fmt.Sprintf("deb [signed-by=KEYRING] http://%s/ubuntu %s main", at, suite))
	if err != nil {
		return err
	}
	defer func() { _ = apt.Remove() }() // it is in the temporary directory
	for pause(ctx, time.Duration(rnd.IntN(2000))*time.Millisecond) {
		name := fmt.Sprintf("app%02d", rnd.IntN(packageKind))
		for _, args := range [][]string{{"update", "--error-on=any"}, {"download", name}} {
			out, err := apt.Command(ctx, "apt-get", append([]string{"-q"}, args...)...).CombinedOutput()
			if ctx.Err() != nil {
				return nil
			}
			if lies.Match(out) {
				l.violate("apt-get %v was given what does not fit together:\n%s", args, out)
			}
			l.apt(args[0], err)
		}
	}
	return nil
}

// apt counts a run of the real one.
func (l *ledger) apt(command string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aptRuns++
	if err != nil {
		l.failures["apt-get "+command]++
	}
}
