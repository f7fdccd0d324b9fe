package config

import (
	"reflect"
	"strings"

	"github.com/aptmesh/aptmesh/node/config/keys"
)

// Change compares the configuration a node runs with a new one. It returns the keys whose change a
// reload applies, and those that wait for a restart, both in reading order; and the configuration
// that is in force after the reload: the new one, with the running values of the keys that wait. A
// keyring or secret whose file has changed under the same name is in neither list; a reload reads
// those files again in any case.
func Change(running, next *Config) (apply, restart []string, inForce *Config) {
	kept := *next
	old := make(map[string]reflect.Value)
	keys.Walk(running, func(f keys.Field) bool { old[f.Path] = f.Value; return true })
	// Files take the place of files while the cluster runs; whether there are any is decided at the
	// start.
	secured := running.Cluster.Secured() && next.Cluster.Secured()
	keys.Walk(&kept, func(f keys.Field) bool {
		was, known := old[f.Path]
		delete(old, f.Path)
		switch {
		case !known && f.IsEntry():
			apply = append(apply, f.Path+" (new)")
			return false
		case !known || !f.Leaf() && !isPlainList(f) || same(was, f.Value):
		case f.Reload && (secured || !strings.HasPrefix(f.Path, "cluster.")):
			apply = append(apply, f.Path)
		default:
			restart = append(restart, f.Path)
			f.Value.Set(was)
		}
		return !isPlainList(f)
	})
	removed := func(key string) {
		if _, gone := old[key]; gone {
			apply = append(apply, key+" (removed)")
		}
	}
	for _, a := range running.Archives {
		removed(keys.Entry("archives", a.Name))
	}
	for _, m := range running.Mirrors {
		removed(keys.Entry("mirrors", m.Name))
	}
	return apply, restart, &kept
}

// isPlainList reports whether a key holds a list of sections without names: it is compared as a whole.
func isPlainList(f keys.Field) bool { return f.IsList() && strings.HasSuffix(f.EntryRow(), "[]") }

// same compares values of keys. No list is the same as an empty one.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
