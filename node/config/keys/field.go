package keys

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
)

// Field is one key with its value in a configuration.
type Field struct {
	Name   string // "max_size"
	Path   string // as goccy writes it, without "$.": archives.ubuntu.upstreams[0].url
	Row    string // the same for all entries of a list: archives.NAME.upstreams[].url
	Value  reflect.Value
	Tag    reflect.StructTag
	Reload bool   // a reload applies a change
	source string // the struct's field: "config.Cache.MaxSize"
}

// anyName stands in a Row for the name of an entry.
const anyName = "NAME"

// IsEntry reports whether the field is an entry of a section with names of its own, such as an archive.
func (f Field) IsEntry() bool { return f.source == "" }

// IsList reports whether the key holds a list of sections, with names or without.
func (f Field) IsList() bool { return isList(f.Value.Type()) }

// EntryRow is the row of what the key holds: of each entry, if it holds a list.
func (f Field) EntryRow() string {
	switch {
	case !f.IsList():
		return f.Row
	case nameOf(reflect.New(f.Value.Type().Elem()).Elem()).IsValid():
		return f.Row + "." + anyName
	}
	return f.Row + "[]"
}

// IsSection reports whether the key holds further keys, in a fixed set.
func (f Field) IsSection() bool { return f.Value.Kind() == reflect.Struct && hasKeys(f.Value.Type()) }

// Leaf reports whether the key holds a value, and no further keys of any kind.
func (f Field) Leaf() bool { return !f.IsList() && !f.IsSection() }

// Texts calls do for the text of the key, or for each of its list.
func (f Field) Texts(do func(key string, text *string)) {
	switch at := f.Value.Addr().Interface().(type) {
	case *string:
		do(f.Path, at)
	case *[]string:
		for i := range *at {
			do(fmt.Sprintf("%s[%d]", f.Path, i), &(*at)[i])
		}
	}
}

// Walk visits every key of a section, which is a pointer to a struct, in reading order, a section before
// its keys. What do returns says whether to go into what the key holds.
func Walk(section any, do func(Field) (into bool)) {
	walk(reflect.ValueOf(section).Elem(), "", "", true, do)
}

func walk(v reflect.Value, path, row string, reload bool, do func(Field) bool) {
	if path != "" {
		path, row = path+".", row+"."
	}
	for _, f := range fieldsOf(v) {
		f.Path, f.Row = path+f.Name, row+f.Name
		f.Reload = reload && f.Tag.Get("reload") != "no" || f.Tag.Get("reload") == "yes"
		if !do(f) {
			continue
		}
		switch {
		case f.IsSection():
			walk(f.Value, f.Path, f.Row, f.Reload, do)
		case f.IsList():
			for i := range f.Value.Len() {
				entry := f.Value.Index(i)
				if name := nameOf(entry); name.IsValid() {
					at := Field{Name: name.String(), Path: Entry(f.Path, name.String()), Row: f.EntryRow(), Value: entry, Reload: true}
					if do(at) {
						walk(entry, at.Path, at.Row, true, do)
					}
				} else {
					walk(entry, f.Path+"["+strconv.Itoa(i)+"]", f.EntryRow(), true, do)
				}
			}
		}
	}
}

// Entry is the key of an entry with a name of its own. A name that the syntax of keys would take apart is
// quoted, as goccy does it.
func Entry(section, name string) string {
	if strings.ContainsAny(name, ".*$[]") {
		name = "'" + name + "'"
	}
	return section + "." + name
}

// fieldsOf are the keys that a struct has, in its order, without their paths.
func fieldsOf(v reflect.Value) (all []Field) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if sf.Tag.Get("yaml") == ",inline" {
			all = append(all, fieldsOf(v.Field(i))...)
		} else if name != "" && name != "-" {
			all = append(all, Field{Name: name, Value: v.Field(i), Tag: sf.Tag, source: v.Type().String() + "." + sf.Name})
		}
	}
	return all
}

func hasKeys(t reflect.Type) bool { return len(fieldsOf(reflect.New(t).Elem())) > 0 }

// isList reports whether a type is a list of sections.
func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && hasKeys(t.Elem())
}

// nameOf is the field of an entry for its name, which stands in the place of a key; invalid if entries of
// its type have none.
func nameOf(entry reflect.Value) reflect.Value {
	v, _ := tagged(entry, "entry")
	return v
}

// shortOf is the field of an entry of a list that may stand for all of the entry, and what it is.
func shortOf(entry reflect.Value) (v reflect.Value, what string) { return tagged(entry, "short") }

// tagged is the field of a struct that has a tag, and the tag; invalid if there is none.
func tagged(v reflect.Value, tag string) (reflect.Value, string) {
	for i := range v.NumField() {
		if text, ok := v.Type().Field(i).Tag.Lookup(tag); ok {
			return v.Field(i), text
		}
	}
	return reflect.Value{}, ""
}

// IsShort reports whether the one field that may stand for an entry of a list says all of it.
func IsShort[T any](entry T) bool { return isShort(reflect.ValueOf(&entry).Elem()) }

func isShort(entry reflect.Value) bool {
	said, _ := shortOf(entry)
	if !said.IsValid() {
		return false
	}
	plain := reflect.New(entry.Type()).Elem()
	setDefaults(plain)
	short, _ := shortOf(plain)
	short.Set(said)
	return reflect.DeepEqual(entry.Interface(), plain.Interface())
}

// New returns a section with every default set.
func New[T any]() T {
	var section T
	setDefaults(reflect.ValueOf(&section).Elem())
	return section
}

// setDefaults sets the fields of a struct, and those of its sections, to the defaults in their tags.
func setDefaults(v reflect.Value) {
	walk(v, "", "", true, func(f Field) bool {
		if text, ok := f.Tag.Lookup("default"); ok {
			d := newDocument("")
			if n, err := parse([]byte(text)); err != nil {
				d.syntax(err)
			} else {
				d.value(n, f.Value, f.Row)
			}
			if len(d.Problems) > 0 {
				panic(fmt.Sprint("the default of ", f.Row, ": ", d.Problems)) // every test would see it
			}
		}
		return true
	})
}

// Docs are the comments of fields, by "package.Type.Field".
type Docs map[string]string

// ReadDocs reads them in the sources of the sections.
func ReadDocs(sources ...string) Docs {
	texts := make(Docs)
	for _, source := range sources {
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
}

// Text is the documentation of a key, in paragraphs.
func (d Docs) Text(f Field) string {
	if text := f.Tag.Get("doc"); text != "" {
		return text
	}
	return d[f.source]
}

// Of is the documentation of a key: its first paragraph, and the others, each in one line.
func (d Docs) Of(f Field) (summary, details string) {
	summary, details, _ = strings.Cut(d.Text(f), "\n\n")
	return strings.ReplaceAll(summary, "\n", " "), strings.ReplaceAll(details, "\n", " ")
}
