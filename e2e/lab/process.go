package lab

import (
	"os"
	"slices"
	"strings"
)

// Environ is the environment of this process without any proxy of this machine.
func Environ(extra ...string) []string {
	return append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.Contains(strings.ToLower(e), "_proxy=")
	}), extra...)
}
