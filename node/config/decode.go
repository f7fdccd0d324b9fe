package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/aptmesh/aptmesh/node/upstream"
)

// decoder turns the syntax tree into a Config and remembers where each key stood.
type decoder struct {
	file     string
	cfg      *Config
	problems []Problem
	// broken says that the file as a whole is not what it should be, so that there
	// is no sense in looking further.
	broken bool
	places map[string]place // by key path, "archives.ubuntu.signed_by[0]" among them
	failed map[string]bool  // keys whose value is no use: one problem each is enough
}

type place struct{ line, col int }

func decodeConfig(file string, text []byte) *decoder {
	d := &decoder{file: file, cfg: Default(), places: make(map[string]place), failed: make(map[string]bool)}
	root, err := parseYAML(text)
	switch {
	case err != nil:
		d.broken = true
		d.syntax(err)
	case root == nil:
	case !isMap(root):
		d.broken = true
		d.problem(root, "", "a configuration is keys with values, not %s", describe(root))
	default:
		d.value(root, reflect.ValueOf(d.cfg).Elem(), "")
	}
	return d
}

func isMap(n ast.Node) bool {
	_, ok := n.(ast.MapNode)
	return ok
}

// parseYAML returns the only document of a file; nil where that is empty.
func parseYAML(text []byte) (body ast.Node, err error) {
	// The parser is not ours; a configuration must not be able to crash the
	// reload of a running node.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not YAML: %v", p)
		}
	}()
	f, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			return nil, errors.New("holds more than one YAML document; keep one and drop the `---`")
		default:
			body = doc.Body
		}
	}
	return body, nil
}

// syntax reports what the parser could not read.
func (d *decoder) syntax(err error) {
	p := Problem{File: d.file, Message: err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		p.Message = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Col = t.Position.Line, t.Position.Column
		}
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) isSet(key string) bool {
	_, ok := d.places[key]
	return ok
}

// at is a Problem at the place of a key, or of the nearest section above it that
// the file has.
func (d *decoder) at(key, message string) Problem {
	for k := key; k != ""; k = parentKey(k) {
		if p, ok := d.places[k]; ok {
			return Problem{d.file, p.line, p.col, message}
		}
	}
	return Problem{File: d.file, Message: message}
}

// problemAt records a problem of a key, unless the value of that key was already
// refused: then what the checks see is only the default in its place.
func (d *decoder) problemAt(key, message string) {
	for k := key; k != ""; k = parentKey(k) {
		if d.failed[k] {
			return
		}
	}
	d.problems = append(d.problems, d.at(key, message))
}

func (d *decoder) problem(n ast.Node, path, format string, args ...any) {
	pos := n.GetToken().Position
	message := fmt.Sprintf(format, args...)
	if path != "" {
		d.failed[path] = true
		message = path + ": " + message
	}
	d.problems = append(d.problems, Problem{d.file, pos.Line, pos.Column, message})
}

// value decodes a node into a field, whose type says what is expected.
func (d *decoder) value(n ast.Node, into reflect.Value, path string) {
	if n.Type() == ast.NullType {
		return // a key with nothing behind it keeps its default
	}
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType:
		d.problem(n, path, "anchors, aliases and tags of YAML are not used here; write the value itself")
		return
	}
	switch p := into.Addr().Interface().(type) {
	case *[]Archive:
		d.archives(n, p, path)
	case *[]Mirror:
		d.upstreams(n, p, path)
	case *time.Duration:
		scalar(d, n, path, p, parseDuration)
	case **time.Duration:
		var v time.Duration
		if scalar(d, n, path, &v, parseDuration) {
			*p = &v
		}
	case *Size:
		scalar(d, n, path, p, ParseSize)
	case *SizeLimit:
		scalar(d, n, path, p, ParseSizeLimit)
	case *Secret:
		var s string
		d.str(n, &s, path)
		*p = upstream.NewSecret(s)
	case *string:
		d.str(n, p, path)
	case *bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.problem(n, path, "expected true or false, not %s", describe(n))
			return
		}
		*p = b.Value
	case *int:
		d.integer(n, p, path)
	case *[]string:
		d.list(n, p, path)
	default:
		d.section(n, into, path)
	}
}

// section decodes a mapping into a struct.
func (d *decoder) section(n ast.Node, into reflect.Value, path string) {
	d.eachKey(n, path, func(k ast.Node, name, keyPath string, v ast.Node) {
		field := fieldNamed(into, name)
		if !field.IsValid() {
			d.problem(k, "", "%s", unknownKey(name, path, keyNames(into.Type())))
			return
		}
		d.value(v, field, keyPath)
	})
}

// archives decodes the mapping from names to archives, in the order of the file.
func (d *decoder) archives(n ast.Node, into *[]Archive, path string) {
	d.eachKey(n, path, func(_ ast.Node, name, keyPath string, v ast.Node) {
		a := NewArchive(name)
		d.value(v, reflect.ValueOf(&a).Elem(), keyPath)
		*into = append(*into, a)
	})
}

// upstreams decodes a list of upstreams, each a URL alone or a mapping.
func (d *decoder) upstreams(n ast.Node, into *[]Mirror, path string) {
	*into = []Mirror{}
	d.eachItem(n, path, "the upstreams below each other, each behind a dash", func(item ast.Node, itemPath string) {
		at := NewMirror()
		if isMap(item) {
			d.value(item, reflect.ValueOf(&at).Elem(), itemPath)
		} else {
			d.value(item, reflect.ValueOf(&at.URL).Elem(), itemPath)
		}
		*into = append(*into, at)
	})
}

// eachKey calls do for every key of a mapping that is a plain word and stands
// there for the first time, and records its place.
func (d *decoder) eachKey(n ast.Node, path string, do func(k ast.Node, name, keyPath string, v ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.problem(n, path, "expected keys with values, not %s", describe(n))
		return
	}
	for iter := m.MapRange(); iter.Next(); {
		k := iter.Key()
		if k.Type() == ast.MergeKeyType || k.Type() == ast.MappingKeyType || k.IsMergeKey() {
			d.problem(k, "", "merge keys and complex keys of YAML are not used here")
			continue
		}
		token := k.GetToken()
		name := token.Value
		keyPath := segment(name)
		if path != "" {
			keyPath = path + "." + keyPath
		}
		if first, again := d.places[keyPath]; again {
			d.problem(k, "", "key `%s` is here a second time; the first is in line %d", name, first.line)
			continue
		}
		d.places[keyPath] = place{token.Position.Line, token.Position.Column}
		do(k, name, keyPath, iter.Value())
	}
}

func (d *decoder) list(n ast.Node, into *[]string, path string) {
	*into = []string{}
	d.eachItem(n, path, "it in brackets, [a, b]", func(item ast.Node, itemPath string) {
		var s string
		d.value(item, reflect.ValueOf(&s).Elem(), itemPath)
		*into = append(*into, s)
	})
}

// eachItem calls do for every item of a list, and records its place; an empty item
// is refused, and yet an item, so that those behind it keep their numbers. write
// says how a list is written.
func (d *decoder) eachItem(n ast.Node, path, write string, do func(item ast.Node, itemPath string)) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(n, path, "expected a list, not %s: write %s", describe(n), write)
		return
	}
	for i, item := range seq.Values {
		itemPath := fmt.Sprintf("%s[%d]", path, i)
		pos := item.GetToken().Position
		d.places[itemPath] = place{pos.Line, pos.Column}
		if item.Type() == ast.NullType {
			d.problem(item, itemPath, "is empty")
		}
		do(item, itemPath)
	}
}

func (d *decoder) str(n ast.Node, into *string, path string) {
	switch s := n.(type) {
	case *ast.StringNode:
		*into = s.Value
	case *ast.LiteralNode:
		*into = s.Value.Value
	default:
		if text, ok := scalarText(n); ok {
			d.problem(n, path, "expected text, not %s; put it in quotes: %q", describe(n), text)
			return
		}
		d.problem(n, path, "expected text, not %s", describe(n))
	}
}

func (d *decoder) integer(n ast.Node, into *int, path string) {
	if n.Type() == ast.IntegerType {
		if i, err := strconv.Atoi(n.GetToken().Value); err == nil {
			*into = i
			return
		}
	}
	d.problem(n, path, "expected a whole number, not %s", describe(n))
}

// scalar decodes a value that has its own notation, quoted or not, and reports
// whether it could.
func scalar[T any](d *decoder, n ast.Node, path string, into *T, parse func(string) (T, error)) bool {
	text, ok := scalarText(n)
	if !ok {
		d.problem(n, path, "expected a single value, not %s", describe(n))
		return false
	}
	v, err := parse(text)
	if err != nil {
		d.problem(n, path, "%v", err)
		return false
	}
	*into = v
	return true
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// describe names what stands in the file, for "expected …, not …".
func describe(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "keys with values"
	case ast.SequenceType:
		return "a list"
	case ast.LiteralType:
		return "a block of text"
	}
	if text, ok := scalarText(n); ok {
		return "`" + text + "`"
	}
	return "a " + n.Type().YAMLName()
}

// unknownKey says what to write instead of a key that does not exist.
func unknownKey(name, section string, valid []string) string {
	message := "unknown key `" + name + "`"
	if section != "" {
		message += " in `" + section + "`"
	}
	if best, ok := nearest(name, valid); ok {
		return message + "; did you mean `" + best + "`?"
	}
	if sections := sectionsWith(name); len(sections) > 0 {
		return message + "; it belongs " + strings.Join(sections, " or ")
	}
	return message + "; the keys here are " + strings.Join(valid, ", ")
}

// nearest finds the word that was probably meant: a third of its letters wrong at
// most, or one that begins like it.
func nearest(word string, valid []string) (string, bool) {
	word = strings.ToLower(word)
	best, bestDistance := "", (len(word)+2)/3+1
	for _, v := range valid {
		if dist := levenshtein.Distance(word, v, nil); dist < bestDistance {
			best, bestDistance = v, dist
		}
	}
	for _, v := range valid {
		if best == "" && len(word) > 2 && (strings.HasPrefix(word, v) || strings.HasPrefix(v, word)) {
			best = v
		}
	}
	return best, best != ""
}

// fieldNamed returns the field of a struct with that key; the zero Value if none.
func fieldNamed(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag == name && tag != "-" {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// keyNames lists the keys of a struct in reading order.
func keyNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "-" {
			names = append(names, tag)
		}
	}
	return names
}
