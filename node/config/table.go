package config

import (
	"cmp"
	_ "embed"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

// field is one key with its value in a configuration.
type field struct {
	name   string // "max_size"
	path   string // as goccy writes it, without "$.": archives.ubuntu.upstreams[0].url
	row    string // the same for every archive and mirror: archives.NAME.upstreams[].url
	value  reflect.Value
	tag    reflect.StructTag
	doc    string // the field's comment
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

// summary is the first paragraph of the documentation, details are the others.
func (f field) summary() string {
	first, _, _ := strings.Cut(f.doc, "\n\n")
	return strings.ReplaceAll(first, "\n", " ")
}

func (f field) details() string {
	_, rest, _ := strings.Cut(f.doc, "\n\n")
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
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		name := keyName(sf)
		if name == "" {
			continue
		}
		f := field{
			name: name, path: path + name, row: row + name, value: v.Field(i), tag: sf.Tag,
			doc: cmp.Or(sf.Tag.Get("doc"), docs()[v.Type().Name()+"."+sf.Name]), reload: reload && sf.Tag.Get("reload") != "no" || sf.Tag.Get("reload") == "yes",
		}
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

// keyName is the key of a struct's field; "" if it has none.
func keyName(sf reflect.StructField) string {
	name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

func hasKeys(t reflect.Type) bool {
	return t.NumField() > 0 && keyName(t.Field(0)) != "" || t == reflect.TypeFor[Archive]()
}

// setDefaults sets the fields of a struct, and those of its sections, to the defaults in their tags.
func setDefaults(v reflect.Value) {
	walkStruct(v, "", "", true, func(f field) bool {
		if text, ok := f.tag.Lookup("default"); ok {
			if err := yaml.Unmarshal([]byte(text), f.value.Addr().Interface()); err != nil {
				panic("the default of " + f.row + ": " + err.Error()) // every test would see it
			}
		}
		return true
	})
}

//go:embed keys.go
var keysSource string

// docs are the comments of the fields in keys.go, by "Type.Field". They are read when the first of
// them is needed, so that a running node never pays for it.
var docs = sync.OnceValue(func() map[string]string {
	texts := make(map[string]string)
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", keysSource, parser.ParseComments)
	if err != nil {
		panic(err) // it was compiled
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			for _, name := range f.Names {
				texts[spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
			}
		}
		return false
	})
	return texts
})
