package config

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// ReloadPlan compares the configuration a node runs with a new one: it returns the
// keys whose change a reload applies, and those that wait for a restart, both in
// reading order. A keyring or secret whose file has changed under the same name is
// in neither list; a reload reads those files again in any case.
func ReloadPlan(old, new *Config) (apply, restart []string) {
	// Files take the place of files while the cluster runs; whether there are any
	// is decided at the start.
	secured := old.Cluster.Secured() && new.Cluster.Secured()
	plan := func(path, generic string) {
		k, ok := lookupKey(generic)
		if live := ok && k.live && (secured || !strings.HasPrefix(generic, "cluster.")); live {
			apply = append(apply, path)
		} else {
			restart = append(restart, path)
		}
	}
	changedKeys(reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem(), "", "", plan)
	return apply, restart
}

// changedKeys calls plan for every key that differs; generic is its path with "*"
// for the archive's name.
func changedKeys(old, new reflect.Value, path, generic string, plan func(path, generic string)) {
	for i := range old.NumField() {
		name := old.Type().Field(i).Tag.Get("yaml")
		if name == "-" {
			continue
		}
		fieldPath, fieldGeneric := name, name
		if path != "" {
			fieldPath, fieldGeneric = path+"."+name, generic+"."+name
		}
		before, after := old.Field(i), new.Field(i)
		switch from := before.Interface().(type) {
		case []Archive:
			changedArchives(from, after.Interface().([]Archive), plan)
		case []Mirror:
			if !slices.Equal(from, after.Interface().([]Mirror)) {
				plan(fieldPath, fieldGeneric)
			}
		case *time.Duration:
			if to := after.Interface().(*time.Duration); (from == nil) != (to == nil) || from != nil && *from != *to {
				plan(fieldPath, fieldGeneric)
			}
		case []string:
			if !slices.Equal(from, after.Interface().([]string)) {
				plan(fieldPath, fieldGeneric)
			}
		default:
			if isSection(before) {
				changedKeys(before, after, fieldPath, fieldGeneric, plan)
			} else if !before.Equal(after) {
				plan(fieldPath, fieldGeneric)
			}
		}
	}
}

// changedArchives compares archives by name; their order means nothing.
func changedArchives(old, new []Archive, plan func(path, generic string)) {
	before := Config{Archives: old}
	after := Config{Archives: new}
	for _, b := range new {
		a, existed := before.Archive(b.Name)
		if !existed {
			plan(archiveKey(b.Name)+" (new)", "archives.*")
			continue
		}
		changedKeys(reflect.ValueOf(a), reflect.ValueOf(b), archiveKey(b.Name), "archives.*", plan)
	}
	for _, a := range old {
		if _, stays := after.Archive(a.Name); !stays {
			plan(archiveKey(a.Name)+" (removed)", "archives.*")
		}
	}
}
