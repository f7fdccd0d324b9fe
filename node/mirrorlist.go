package node

import (
	"fmt"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// maxListed is how many mirrors of one list are used: the first by priority. A
// list of all the world's mirrors would have the node try hundreds before it could
// say that none has a file.
const maxListed = 32

// parseListFile reads a list of mirrors on disk.
func parseListFile(name string) ([]aptconf.ListedMirror, error) {
	text, err := readBounded(name, aptconf.MaxMirrorList)
	if err != nil {
		return nil, err
	}
	mirrors, _, err := aptconf.ParseMirrorList(name, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return mirrors, nil
}
