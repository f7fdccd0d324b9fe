package node

import (
	"context"

	"github.com/aptmesh/aptmesh/node/blobstore"
)

// VerifyReport is what VerifyStore found.
type VerifyReport = blobstore.Report

// VerifyStore re-hashes every blob of the node whose Config.Data is dataDir, and
// with remove takes away what is damaged, so that it will be fetched again. The
// node may be running. progress, where not nil, is told how many of the total
// bytes are done. Damage is in the report, not in the error.
func VerifyStore(ctx context.Context, dataDir string, remove bool, progress func(done, total int64)) (VerifyReport, error) {
	if remove {
		return blobstore.Repair(ctx, dataDir, progress)
	}
	return blobstore.Verify(ctx, dataDir, progress)
}
