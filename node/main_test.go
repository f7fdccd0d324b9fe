package node_test

import (
	"flag"
	"os"
	"testing"
)

// The tests that run in parallel wait for faults and timeouts most of the time, so
// more of them run at a time than there are processors, unless -parallel says otherwise.
func TestMain(m *testing.M) {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", "10") // it is a number
	}
	os.Exit(m.Run())
}
