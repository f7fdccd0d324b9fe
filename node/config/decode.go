package config

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

// compare orders problems as they stand in the file.
func (p Problem) compare(other Problem) int {
	return cmp.Or(cmp.Compare(p.Line, other.Line), cmp.Compare(p.Col, other.Col))
}

// Warning is something a configuration says that works but may not be meant.
type Warning = Problem

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

// document is a configuration file that was read, and where each of its keys stands.
type document struct {
	file     string
	cfg      *Config
	problems []Problem
	// broken says that the file as a whole is not what it should be, so that there is no sense in
	// looking further.
	broken bool
	places map[string]*token.Position // by key, "archives.ubuntu.signed_by[0]" among them
	failed map[string]bool            // keys with an unusable value: one problem each is enough
}

func newDocument(file string) *document {
	return &document{file: file, places: make(map[string]*token.Position), failed: make(map[string]bool)}
}

// decode reads a file. goccy reads the YAML; what its keys mean is read here and not by goccy's decoder,
// which stops at the first problem and has no place for one in a value of a plain type.
func decode(file string, text []byte) *document {
	d := newDocument(file)
	d.cfg = Default()
	body, err := parse(bytes.TrimPrefix(text, []byte("\ufeff")))
	switch {
	case err != nil:
		d.broken = true
		d.syntax(err)
	case body == nil:
	default:
		if _, ok := body.(ast.MapNode); !ok {
			d.broken = true
			d.problem(body.GetToken(), "a configuration is keys with values, not "+describe(body))
			break
		}
		d.section(body, reflect.ValueOf(d.cfg).Elem(), "")
	}
	return d
}

// section reads keys with values into a struct.
func (d *document) section(n ast.Node, into reflect.Value, path string) {
	fields := fieldsOf(into)
	d.entries(n, path, func(name string, key *token.Token, value ast.Node) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			d.problem(key, unknownKey(name, path, fields))
			return
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		d.places[at] = key.Position
		d.value(value, fields[i].value, at)
	})
}

// entries calls read for each key of a mapping.
func (d *document) entries(n ast.Node, path string, read func(name string, key *token.Token, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.refuse(n, path, "expected keys with values, not "+describe(n))
		return
	}
	lines := make(map[string]int)
	for i := m.MapRange(); i.Next() && !d.broken; {
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
func (d *document) value(n ast.Node, into reflect.Value, path string) {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType:
		d.refuse(n, path, "anchors, aliases and tags of YAML are not used here; write the value itself")
		return
	}
	switch held := into.Addr().Interface().(type) {
	case *Archives:
		*held = Archives{}
		d.entries(n, path, func(name string, key *token.Token, value ast.Node) {
			a := NewArchive(name)
			d.places[archiveKey(name)] = key.Position
			d.section(value, reflect.ValueOf(&a).Elem(), archiveKey(name))
			*held = append(*held, a)
		})
		return
	case *[]Mirror:
		*held = []Mirror{}
		d.list(n, path, func(i int, item ast.Node) {
			m, at := NewMirror(), fmt.Sprintf("%s[%d]", path, i)
			if text, ok := scalarText(item); ok {
				m.URL = text
			} else if _, ok := item.(ast.MapNode); ok {
				d.section(item, reflect.ValueOf(&m).Elem(), at)
			} else {
				d.refuse(item, at, "expected a URL, or keys with values, not "+describe(item))
			}
			*held = append(*held, m)
		})
		return
	}
	switch {
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

// list reads the items of a list. Anything else but nothing is a list of one item.
func (d *document) list(n ast.Node, path string, read func(i int, item ast.Node)) {
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
func (d *document) scalar(n ast.Node, into reflect.Value, path string) {
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
func (d *document) refuse(n ast.Node, path, message string) {
	d.failed[path] = true
	if archive, ok := strings.CutSuffix(path, ".upstreams"); ok {
		d.failed[archive+".upstream"] = true // whose place they take
	}
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
func (d *document) syntax(err error) {
	p := Problem{File: d.file, Message: err.Error()}
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
	d.problems = append(d.problems, p)
}

func (d *document) problem(at *token.Token, message string) {
	d.problems = append(d.problems, Problem{d.file, at.Position.Line, at.Position.Column, message})
	d.broken = d.broken || len(d.problems) == maxProblems
}

func (d *document) isSet(key string) bool { return d.places[key] != nil }

// at is a Problem at the place of a key, or of the nearest section above it that the file has.
func (d *document) at(key, message string) Problem {
	for k := key; k != ""; k = parentKey(k) {
		if p := d.places[k]; p != nil {
			return Problem{d.file, p.Line, p.Column, message}
		}
	}
	return Problem{File: d.file, Message: message}
}

// problemAt records a problem of a key, unless the value of that key was already refused: then
// what the checks see is only the default in its place.
func (d *document) problemAt(key, message string) {
	for k := key; k != ""; k = parentKey(k) {
		if d.failed[k] {
			return
		}
	}
	d.problems = append(d.problems, d.at(key, message))
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

// foreignKeys are those that stand in most files of apt-cacher-ng.
var foreignKeys = []string{"CacheDir", "LogDir", "Port", "BindAddress", "ReportPage", "ExThreshold", "PassThroughPattern", "Proxy"}

// unknownKey says what to write instead of a key that its section does not have.
func unknownKey(name, section string, fields []field) string {
	message := "unknown key `" + name + "`"
	if section != "" {
		message += " in `" + section + "`"
	}
	if section == "" && (slices.Contains(foreignKeys, name) || strings.HasPrefix(name, "Remap-")) {
		return message + ", which is one of apt-cacher-ng; docs/coming-from.md has what to write instead"
	}
	valid := make([]string, len(fields))
	for i, f := range fields {
		valid[i] = f.name
	}
	if best, ok := Nearest(name, valid); ok {
		return message + "; did you mean `" + best + "`?"
	}
	var places []string
	sample().walk(func(f field) bool {
		if f.name == name && f.row == name {
			places = append(places, "at the top of the file")
		} else if in, ok := strings.CutSuffix(f.row, "."+name); ok && f.name == name {
			places = append(places, "in `"+in+"`")
		}
		return true
	})
	if slices.Sort(places); len(places) > 0 {
		return message + "; it belongs " + strings.Join(slices.Compact(places), " or ")
	}
	return message + "; the keys here are " + strings.Join(valid, ", ")
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
