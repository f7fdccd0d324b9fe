package main

import (
	"fmt"
	"strings"
)

// A mode is how apt reaches the tests' web server.
type mode struct {
	between  string // "direct", "proxy" or "mapped"
	unsigned bool   // the node takes the archive without any signature
	warm     bool   // the node keeps what it has from one `apt update` to the next
}

func parseMode(name string) (m mode, err error) {
	parts := strings.Split(name, "-")
	m.between = parts[0]
	if m.between != "direct" && m.between != "proxy" && m.between != "mapped" {
		return m, fmt.Errorf("mode %q: a mode begins with direct, proxy or mapped", name)
	}
	for _, part := range parts[1:] {
		switch part {
		case "unsigned":
			m.unsigned = true
		case "warm":
			m.warm = true
		default:
			return m, fmt.Errorf("mode %q: only -unsigned and -warm may follow", name)
		}
	}
	if m.between == "direct" && (m.unsigned || m.warm) {
		return m, fmt.Errorf("mode %q: no node is between, so there is nothing to choose", name)
	}
	return m, nil
}

func (m mode) String() string {
	s := m.between
	if m.unsigned {
		s += "-unsigned"
	}
	if m.warm {
		s += "-warm"
	}
	return s
}
