package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/config"
)

// sharedConfiguration is what must be the same on all nodes of a cluster, by key: the
// archives, their keys, and the caps that the nodes share. A long value, or one that may
// contain something private, is replaced by its digest. Every node reports its own; status
// compares them.
func sharedConfiguration(cfg *config.Config) (map[string]string, error) {
	shared := map[string]string{
		"upstream_client.connections_per_host": fmt.Sprint(cfg.UpstreamClient.ConnectionsPerHost),
		"upstream_client.rate":                 fmt.Sprint(cfg.UpstreamClient.Rate),
	}
	for _, a := range cfg.Archives {
		key := "archives." + a.Name
		shared[key] = "there"
		var urls []string
		for _, m := range a.Mirrors() {
			urls = append(urls, m.URL)
		}
		slices.Sort(urls)
		shared[key+".accept_older"] = a.AcceptsOlderAfter().String()
		shared[key+".upstream"] = digest(urls...)
		ring, err := a.Keyring()
		if err != nil {
			return nil, err
		}
		signed := []string{fmt.Sprint(a.Unsigned), fmt.Sprint(a.TrustHTTPS), fmt.Sprint(a.WeakKeys), fmt.Sprint(a.Metalink)}
		if ring != nil {
			prints := slices.Clone(ring.Fingerprints())
			slices.Sort(prints)
			signed = append(signed, prints...)
		}
		unsigned := slices.Clone(a.UnsignedSuites)
		slices.Sort(unsigned)
		shared[key+".signed_by"] = digest(append(signed, unsigned...)...)
	}
	return shared, nil
}

// digest is short: it only has to detect values that differ by mistake.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}
