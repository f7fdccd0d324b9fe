package config

import (
	"cmp"
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// field is one key with its value in a configuration.
type field struct {
	name   string // "max_size"
	path   string // as goccy writes it, without "$.": archives.ubuntu.upstreams[0].url
	row    string // the same for every archive and mirror: archives.NAME.upstreams[].url
	value  reflect.Value
	tag    reflect.StructTag
	source string // the struct's field: "config.Cache.MaxSize"
	reload bool   // a reload applies a change
}

// archiveRow is the row of each archive.
const archiveRow = "archives.NAME"

// isSection reports whether the key holds further keys, in a fixed set.
func (f field) isSection() bool { return f.value.Kind() == reflect.Struct && hasKeys(f.value.Type()) }

// leaf reports whether the key holds a value, and no further keys of any kind.
func (f field) leaf() bool {
	switch f.value.Interface().(type) {
	case Archives, []Mirror:
		return false
	}
	return !f.isSection()
}

// doc is the documentation: the field's comment.
func (f field) doc() string { return cmp.Or(f.tag.Get("doc"), docs()[f.source]) }

// summary is the first paragraph of the documentation, details are the others.
func (f field) summary() string {
	first, _, _ := strings.Cut(f.doc(), "\n\n")
	return strings.ReplaceAll(first, "\n", " ")
}

func (f field) details() string {
	_, rest, _ := strings.Cut(f.doc(), "\n\n")
	return strings.ReplaceAll(rest, "\n", " ")
}

// walk visits every key of a configuration in reading order, a section before its keys. What do
// returns says whether to go into what the key holds.
func (c *Config) walk(do func(field) (into bool)) {
	walkStruct(reflect.ValueOf(c).Elem(), "", "", true, do)
}

func walkStruct(v reflect.Value, path, row string, reload bool, do func(field) bool) {
	if path != "" {
		path, row = path+".", row+"."
	}
	for _, f := range fieldsOf(v) {
		f.path, f.row = path+f.name, row+f.name
		f.reload = reload && f.tag.Get("reload") != "no" || f.tag.Get("reload") == "yes"
		if !do(f) {
			continue
		}
		switch held := f.value.Addr().Interface().(type) {
		case *Archives:
			for i := range *held {
				at := reflect.ValueOf(&(*held)[i]).Elem()
				entry := field{name: (*held)[i].Name, path: archiveKey((*held)[i].Name), row: archiveRow, value: at, reload: true}
				if do(entry) {
					walkStruct(at, entry.path, entry.row, true, do)
				}
			}
		case *[]Mirror:
			for i := range *held {
				walkStruct(reflect.ValueOf(&(*held)[i]).Elem(), f.path+"["+strconv.Itoa(i)+"]", f.row+"[]", true, do)
			}
		default:
			if f.isSection() {
				walkStruct(f.value, f.path, f.row, f.reload, do)
			}
		}
	}
}

// fieldsOf are the keys that a struct has, in its order, without their paths.
func fieldsOf(v reflect.Value) (all []field) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if sf.Tag.Get("yaml") == ",inline" {
			all = append(all, fieldsOf(v.Field(i))...)
		} else if name := keyName(sf); name != "" {
			all = append(all, field{name: name, value: v.Field(i), tag: sf.Tag, source: v.Type().String() + "." + sf.Name})
		}
	}
	return all
}

// keyName is the key of a struct's field; "" if it has none.
func keyName(sf reflect.StructField) string {
	name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

func hasKeys(t reflect.Type) bool { return len(fieldsOf(reflect.New(t).Elem())) > 0 }

// setDefaults sets the fields of a struct, and those of its sections, to the defaults in their tags.
func setDefaults(v reflect.Value) {
	walkStruct(v, "", "", true, func(f field) bool {
		if text, ok := f.tag.Lookup("default"); ok {
			d := newDocument("")
			if n, err := parse([]byte(text)); err != nil {
				d.syntax(err)
			} else {
				d.value(n, f.value, f.row)
			}
			if len(d.problems) > 0 {
				panic(fmt.Sprint("the default of ", f.row, ": ", d.problems)) // every test would see it
			}
		}
		return true
	})
}

//go:embed keys.go
var keysSource string

// docs are the comments of the fields in the sources of the sections, by "package.Type.Field". They are
// read when the first of them is needed, so that a running node never pays for it.
var docs = sync.OnceValue(func() map[string]string {
	texts := make(map[string]string)
	for _, source := range []string{keysSource, admin.SettingsSource, blobstore.SettingsSource, front.SettingsSource, catalog.SettingsSource, prefetch.SettingsSource, upstream.SettingsSource} {
		file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.ParseComments)
		if err != nil {
			panic(err) // it was compiled
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if of, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range of.Fields.List {
					for _, name := range f.Names {
						texts[file.Name.Name+"."+spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
					}
				}
			}
			return false
		})
	}
	return texts
})
