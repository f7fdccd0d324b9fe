package config

import (
	"reflect"
	"strings"
)

// Change compares the configuration a node runs with a new one. It returns the keys whose change a
// reload applies, and those that wait for a restart, both in reading order; and the configuration
// that is in force after the reload: the new one, with the running values of the keys that wait. A
// keyring or secret whose file has changed under the same name is in neither list; a reload reads
// those files again in any case.
func Change(running, next *Config) (apply, restart []string, inForce *Config) {
	kept := *next
	old := make(map[string]reflect.Value)
	running.walk(func(f field) bool { old[f.path] = f.value; return true })
	// Files take the place of files while the cluster runs; whether there are any is decided at the
	// start.
	secured := running.Cluster.Secured() && next.Cluster.Secured()
	kept.walk(func(f field) bool {
		was, known := old[f.path]
		delete(old, f.path)
		switch {
		case !known && f.row == archiveRow:
			apply = append(apply, f.path+" (new)")
			return false
		case !known || !f.leaf() && !isMirrors(f) || same(was, f.value):
		case f.reload && (secured || !strings.HasPrefix(f.path, "cluster.")):
			apply = append(apply, f.path)
		default:
			restart = append(restart, f.path)
			f.value.Set(was)
		}
		return !isMirrors(f)
	})
	for _, a := range running.Archives {
		if _, gone := old[archiveKey(a.Name)]; gone {
			apply = append(apply, archiveKey(a.Name)+" (removed)")
		}
	}
	return apply, restart, &kept
}

func isMirrors(f field) bool { return f.value.Type() == reflect.TypeFor[[]Mirror]() }

// same compares values of keys. No list is the same as an empty one.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
