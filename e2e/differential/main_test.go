package differential

import (
	"flag"
	"testing"

	"github.com/aptmesh/aptmesh/e2e/lab"
	_ "github.com/aptmesh/aptmesh/node" // so that a cached result of the test counts for nothing once the product has changed
)

var (
	full    = flag.Bool("full", false, "every row in every mode")
	rows    = flag.String("rows", "", "only the rows whose names match")
	control = flag.Bool("control", false, "a plain forwarder in the place of aptmesh")
)

// binary is the aptmesh that is tested.
var binary string

// parallel is how many rows run at a time. apt uses a processor most of the time, so a few
// more than there are processors will do.
const parallel = "5"

func TestMain(m *testing.M) {
	lab.Main(m, parallel, &binary, func() bool { return !*control })
}
