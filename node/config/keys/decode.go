package keys

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Problem is one thing wrong with a configuration, and where.
type Problem struct {
	File      string // "" where the configuration came from no file
	Line, Col int    // from 1; 0 where the place is not known
	Key       string // with which the message begins, where that is known
	Message   string
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Message
	case p.Line == 0:
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Message)
}

// Compare orders problems as they stand in the file.
func (p Problem) Compare(other Problem) int {
	return cmp.Or(cmp.Compare(p.Line, other.Line), cmp.Compare(p.Col, other.Col))
}

// Error is everything wrong with a configuration, in the order of the file.
type Error struct{ Problems []Problem }

// Error returns one line per problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Document is a configuration file that was read, and where each of its keys stands.
type Document struct {
	File     string
	Problems []Problem
	// Broken says that the file as a whole is not what it should be, so that there is no sense in
	// looking further.
	Broken bool

	top    reflect.Type
	known  func(key string) string
	places map[string]*token.Position // by key, "archives.ubuntu.signed_by[0]" among them
	failed map[string]bool            // keys with an unusable value: one problem each is enough
}

func newDocument(file string) *Document {
	return &Document{File: file, places: make(map[string]*token.Position), failed: make(map[string]bool)}
}

// Decode reads a file into a struct that has its defaults. known says of a key at the top that the struct
// does not have what to do about it; "" if it does not know the key either.
//
// goccy reads the YAML; what its keys mean is read here and not by goccy's decoder, which stops at the
// first problem and has no place for one in a value of a plain type.
func Decode(file string, text []byte, into any, known func(key string) string) *Document {
	d := newDocument(file)
	d.known = known
	v := reflect.ValueOf(into).Elem()
	d.top = v.Type()
	body, err := parse(bytes.TrimPrefix(text, []byte("\ufeff")))
	switch {
	case err != nil:
		d.Broken = true
		d.syntax(err)
	case body == nil:
	default:
		if _, ok := body.(ast.MapNode); !ok {
			d.Broken = true
			d.problem(body.GetToken(), "a configuration is keys with values, not "+describe(body))
			break
		}
		d.section(body, v, "")
	}
	return d
}

// section reads keys with values into a struct.
func (d *Document) section(n ast.Node, into reflect.Value, path string) {
	fields := fieldsOf(into)
	d.entries(n, path, func(name string, key *token.Token, value ast.Node) {
		i := slices.IndexFunc(fields, func(f Field) bool { return f.Name == name })
		if i < 0 {
			d.problem(key, d.unknownKey(name, path, fields))
			return
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		d.places[at] = key.Position
		d.value(value, fields[i].Value, at)
	})
}

// entries calls read for each key of a mapping.
func (d *Document) entries(n ast.Node, path string, read func(name string, key *token.Token, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.refuse(n, path, "expected keys with values, not "+describe(n))
		return
	}
	lines := make(map[string]int)
	for i := m.MapRange(); i.Next() && !d.Broken; {
		key := i.Key().GetToken()
		line, again := lines[key.Value]
		switch _, scalar := i.Key().(ast.ScalarNode); {
		case !scalar || i.Key().IsMergeKey():
			d.problem(key, "merge keys and complex keys of YAML are not used here")
		case again:
			d.problem(key, fmt.Sprintf("key `%s` is here a second time; the first is in line %d", key.Value, line))
		default:
			lines[key.Value] = key.Position.Line
			read(key.Value, key, i.Value())
		}
	}
}

// value reads what stands behind a key.
func (d *Document) value(n ast.Node, into reflect.Value, path string) {
	if isList(into.Type()) {
		into.Set(reflect.MakeSlice(into.Type(), 0, 1)) // it is given, whatever it is
	}
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType:
		d.refuse(n, path, "anchors, aliases and tags of YAML are not used here; write the value itself")
		return
	}
	switch {
	case isList(into.Type()):
		d.sections(n, into, path)
	case into.Kind() == reflect.Slice:
		into.Set(reflect.MakeSlice(into.Type(), 0, 1))
		d.list(n, path, func(i int, item ast.Node) {
			v := reflect.New(into.Type().Elem()).Elem()
			d.scalar(item, v, fmt.Sprintf("%s[%d]", path, i))
			into.Set(reflect.Append(into, v))
		})
	case into.Kind() == reflect.Struct && hasKeys(into.Type()):
		if n.Type() != ast.NullType { // all its keys may be commented out
			d.section(n, into, path)
		}
	case into.Kind() == reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.scalar(n, into.Elem(), path)
	default:
		d.scalar(n, into, path)
	}
}

// sections reads a list of sections: keys that are the names of its entries, or the items of a list.
func (d *Document) sections(n ast.Node, into reflect.Value, path string) {
	fresh := func() reflect.Value {
		v := reflect.New(into.Type().Elem()).Elem()
		setDefaults(v)
		return v
	}
	if nameOf(fresh()).IsValid() {
		d.entries(n, path, func(name string, key *token.Token, value ast.Node) {
			v, at := fresh(), Entry(path, name)
			nameOf(v).SetString(name)
			d.places[at] = key.Position
			d.section(value, v, at)
			into.Set(reflect.Append(into, v))
		})
		return
	}
	d.list(n, path, func(i int, item ast.Node) {
		v, at := fresh(), fmt.Sprintf("%s[%d]", path, i)
		short, what := shortOf(v)
		if text, ok := scalarText(item); ok {
			short.SetString(text)
		} else if _, ok := item.(ast.MapNode); ok {
			d.section(item, v, at)
		} else {
			d.refuse(item, at, "expected "+what+", or keys with values, not "+describe(item))
		}
		into.Set(reflect.Append(into, v))
	})
}

// list reads the items of a list. Anything else but nothing is a list of one item.
func (d *Document) list(n ast.Node, path string, read func(i int, item ast.Node)) {
	items := []ast.Node{n}
	if seq, ok := n.(*ast.SequenceNode); ok {
		items = seq.Values
	} else if _, ok := scalarText(n); !ok {
		d.refuse(n, path, "expected a list, not "+describe(n)+": write it in brackets, [a, b], or each item behind a dash on a line of its own")
		return
	}
	for i, item := range items {
		d.places[fmt.Sprintf("%s[%d]", path, i)] = item.GetToken().Position
		read(i, item)
	}
}

// scalar reads a value that has no parts.
func (d *Document) scalar(n ast.Node, into reflect.Value, path string) {
	text, ok := scalarText(n)
	if !ok {
		d.refuse(n, path, "expected a single value, not "+describe(n))
		return
	}
	if err := parseText(text, into.Addr().Interface()); err != nil {
		d.refuse(n, path, err.Error())
	}
}

// refuse reports a value that is not what its key has, which keeps its default.
func (d *Document) refuse(n ast.Node, path, message string) {
	d.failed[path] = true
	d.problem(n.GetToken(), path+": "+message)
}

// maxProblems bounds how many problems are looked for: with as many a file is no configuration.
const maxProblems = 100

// parse returns the only document of a file; nil where that is empty. A panic of the YAML library is an
// error: a configuration must not be able to crash the reload of a running node.
func parse(text []byte) (body ast.Node, err error) {
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
func (d *Document) syntax(err error) {
	p := Problem{File: d.File, Message: err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		p.Message = y.GetMessage()
		if strings.Contains(p.Message, "'\t'") {
			p.Message = "there is a tab; YAML is indented with spaces"
		}
		if t := y.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Col = t.Position.Line, t.Position.Column
		}
	}
	d.Problems = append(d.Problems, p)
}

func (d *Document) problem(at *token.Token, message string) {
	d.Problems = append(d.Problems, Problem{File: d.File, Line: at.Position.Line, Col: at.Position.Column, Message: message})
	d.Broken = d.Broken || len(d.Problems) == maxProblems
}

// IsSet reports whether the file has a key.
func (d *Document) IsSet(key string) bool { return d.places[key] != nil }

// At is a Problem at the place of a key, or of the nearest section above it that the file has.
func (d *Document) At(key, message string) Problem {
	for k := key; k != ""; k = parentKey(k) {
		if p := d.places[k]; p != nil {
			return Problem{File: d.File, Line: p.Line, Col: p.Column, Key: key, Message: message}
		}
	}
	return Problem{File: d.File, Message: message}
}

// Fail takes the value of a key for refused.
func (d *Document) Fail(key string) { d.failed[key] = true }

// ProblemAt records a problem of a key, unless the value of that key was already refused: then
// what the checks see is only the default in its place.
func (d *Document) ProblemAt(key, message string) {
	for k := key; k != ""; k = parentKey(k) {
		if d.failed[k] {
			return
		}
	}
	d.Problems = append(d.Problems, d.At(key, message))
}

// parentKey is the section a key stands in, or the list an item stands in; "" at the top.
func parentKey(key string) string {
	if i := strings.LastIndexByte(key, '['); i >= 0 && strings.HasSuffix(key, "]") {
		return key[:i]
	}
	parent, _ := splitKey(key)
	return parent
}

// splitKey splits a key at its last dot that is not inside quotes.
func splitKey(key string) (parent, leaf string) {
	quoted := false
	for i := len(key) - 1; i >= 0; i-- {
		switch key[i] {
		case '\'':
			quoted = !quoted
		case '.':
			if !quoted {
				return key[:i], key[i+1:]
			}
		}
	}
	return "", key
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
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
	case ast.NullType:
		return "nothing"
	}
	if text, ok := scalarText(n); ok {
		return "`" + text + "`"
	}
	return "a " + n.Type().YAMLName()
}

// unknownKey says what to write instead of a key that its section does not have.
func (d *Document) unknownKey(name, section string, fields []Field) string {
	message := "unknown key `" + name + "`"
	if section != "" {
		message += " in `" + section + "`"
	} else if said := d.known(name); said != "" {
		return message + said
	}
	valid := make([]string, len(fields))
	for i, f := range fields {
		valid[i] = f.Name
	}
	if best, ok := Nearest(name, valid); ok {
		return message + "; did you mean `" + best + "`?"
	}
	if places := placesOf(name, reflect.New(d.top).Elem(), ""); len(places) > 0 {
		slices.Sort(places)
		return message + "; it belongs " + strings.Join(slices.Compact(places), " or ")
	}
	return message + "; the keys here are " + strings.Join(valid, ", ")
}

// placesOf names the sections at and below row that have a key.
func placesOf(name string, section reflect.Value, row string) (places []string) {
	for _, f := range fieldsOf(section) {
		at := strings.TrimPrefix(row+"."+f.Name, ".")
		switch {
		case f.IsSection():
			places = append(places, placesOf(name, f.Value, at)...)
		case f.IsList():
			f.Row = at
			places = append(places, placesOf(name, reflect.New(f.Value.Type().Elem()).Elem(), f.EntryRow())...)
		}
		switch {
		case f.Name != name:
		case row == "":
			places = append(places, "at the top of the file")
		default:
			places = append(places, "in `"+row+"`")
		}
	}
	return places
}

// Nearest finds the word that was probably meant: a third of its letters wrong at
// most, or one that begins like it.
func Nearest(word string, valid []string) (string, bool) {
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
