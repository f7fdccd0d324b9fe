package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
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

// decode reads a file. The decoder stops at the first problem, so the value that has it is taken
// out of the tree, and what is left is decoded again: one run tells everything.
func decode(file string, text []byte) *document {
	d := &document{file: file, cfg: Default(), places: make(map[string]*token.Position), failed: make(map[string]bool)}
	body, err := parse(bytes.TrimPrefix(text, []byte("\ufeff")))
	if err != nil {
		d.broken = true
		d.syntax(err)
		return d
	}
	if body == nil {
		return d
	}
	if _, ok := body.(ast.MapNode); !ok {
		d.broken = true
		d.problem(body.GetToken(), "a configuration is keys with values, not "+describe(body))
		return d
	}
	entries := make(map[*token.Token]entry)
	ast.Walk(visitor{d: d, entries: entries}, body)
	for len(d.problems) < maxProblems {
		cfg := Default()
		err := guard(func() error { return yaml.NodeToValue(body, cfg, yaml.Strict()) })
		if err == nil {
			d.cfg = cfg
			return d
		}
		var y yaml.Error
		if !errors.As(err, &y) || !d.takeOut(y, entries) {
			d.syntax(err)
			break
		}
	}
	d.broken = true
	return d
}

// maxProblems bounds how often a file is decoded: with as many problems it is no configuration.
const maxProblems = 100

// guard turns a panic into an error. The YAML library is not ours; a configuration must not be able
// to crash the reload of a running node.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not YAML: %v", p)
		}
	}()
	return do()
}

// parse returns the only document of a file; nil where that is empty.
func parse(text []byte) (body ast.Node, err error) {
	var f *ast.File
	if err := guard(func() (err error) {
		f, err = parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
		return err
	}); err != nil {
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
}

// entry is one key with its value, and the mapping it stands in.
type entry struct {
	in  *ast.MappingNode
	own *ast.MappingValueNode
}

// key is the path of the entry, "" for the file as a whole.
func (e entry) key() string {
	if e.own == nil {
		return ""
	}
	return strings.TrimPrefix(strings.TrimPrefix(e.own.GetPath(), "$"), ".")
}

// visitor notes where the keys stand and which entry each token belongs to. It turns numbers into
// the text that stands there, so that "0755" is no 493 where text is wanted, and reports what of
// YAML is not used here.
type visitor struct {
	d       *document
	entries map[*token.Token]entry
	in      *ast.MappingNode // the innermost mapping
	at      entry            // the innermost entry
}

func (v visitor) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.MappingNode:
		v.in = n
		lines := make(map[string]int)
		n.Values = slices.DeleteFunc(n.Values, func(m *ast.MappingValueNode) bool {
			key := m.Key.GetToken()
			line, again := lines[key.Value]
			switch _, scalar := m.Key.(ast.ScalarNode); {
			case !scalar || m.Key.IsMergeKey():
				v.d.problem(key, "merge keys and complex keys of YAML are not used here")
			case again:
				v.d.problem(key, fmt.Sprintf("key `%s` is here a second time; the first is in line %d", key.Value, line))
			default:
				lines[key.Value] = key.Position.Line
				return false
			}
			return true
		})
	case *ast.MappingValueNode:
		v.at = entry{v.in, n}
		n.Value = v.plain(n.Value)
		v.d.places[v.at.key()] = n.Key.GetToken().Position
		v.entries[n.Key.GetToken()] = v.at
	case *ast.SequenceNode:
		for i, item := range n.Values {
			n.Values[i] = v.plain(item)
			v.d.places[fmt.Sprintf("%s[%d]", v.at.key(), i)] = item.GetToken().Position
		}
	}
	if t := n.GetToken(); t != nil && v.entries[t].own == nil {
		v.entries[t] = v.at
	}
	return v
}

// plain returns the value to decode in the place of a node.
func (v visitor) plain(n ast.Node) ast.Node {
	t := n.GetToken()
	switch n.Type() {
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		text := ast.String(t)
		text.Path = n.GetPath()
		return text
	case ast.AnchorType, ast.AliasType, ast.TagType:
		v.d.problem(t, v.at.key()+": anchors, aliases and tags of YAML are not used here; write the value itself")
		v.d.failed[v.at.key()] = true
		return ast.Null(t)
	}
	return n
}

// takeOut reports what the decoder found, and takes the entry that it belongs to out of the tree.
func (d *document) takeOut(err yaml.Error, entries map[*token.Token]entry) bool {
	e := entries[err.GetToken()]
	if e.own == nil || e.in == nil {
		return false
	}
	before := len(e.in.Values)
	e.in.Values = slices.DeleteFunc(e.in.Values, func(m *ast.MappingValueNode) bool { return m == e.own })
	if len(e.in.Values) == before {
		return false // it would be found again for ever
	}
	key, value := e.key(), describe(e.own.Value)
	var message string
	var wrongNode *yaml.UnexpectedNodeTypeError
	var wrongType *yaml.TypeError
	var unknown *yaml.UnknownFieldError
	switch {
	case errors.As(err, &unknown):
		d.problem(err.GetToken(), unknownKey(e.own.Key.GetToken().Value, key))
		return true
	case errors.As(err, &wrongNode) && wrongNode.Expected == ast.MappingType:
		message = "expected keys with values, not " + value
	case errors.As(err, &wrongNode):
		message = "expected a list, not " + value + ": write the items below each other, each behind a dash"
	case errors.As(err, &wrongType) && wrongType.DstType.Kind() == reflect.Bool:
		message = "expected true or false, not " + value
	case errors.As(err, &wrongType):
		message = "expected text, not " + value
	default:
		message = err.GetMessage()
	}
	d.failed[key] = true
	if archive, ok := strings.CutSuffix(key, ".upstreams"); ok {
		d.failed[archive+".upstream"] = true // whose place they take
	}
	d.problem(err.GetToken(), key+": "+message)
	return true
}

// wrong is what an unmarshaler returns for a node that it cannot use.
func wrong(n ast.Node, format string, args ...any) error {
	return &yaml.SyntaxError{Message: fmt.Sprintf(format, args...), Token: n.GetToken()}
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

// sections are the names of the keys in each section, by its row: "" is the top of the file.
func sections() map[string][]string {
	all := make(map[string][]string)
	sample().walk(func(f field) bool {
		section := strings.TrimSuffix(strings.TrimSuffix(f.row, f.name), ".")
		if f.row != archiveRow && !slices.Contains(all[section], f.name) {
			all[section] = append(all[section], f.name)
		}
		return true
	})
	return all
}

var (
	archiveInKey = regexp.MustCompile(`^archives\.('[^']*'|[^.]*)`)
	indexInKey   = regexp.MustCompile(`\[\d+\]`)
)

// foreignKeys are those that stand in most files of apt-cacher-ng.
var foreignKeys = []string{"CacheDir", "LogDir", "Port", "BindAddress", "ReportPage", "ExThreshold", "PassThroughPattern", "Proxy"}

// unknownKey says what to write instead of a key that does not exist.
func unknownKey(name, key string) string {
	all := sections()
	section := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(key, "'"+name+"'"), name), ".")
	row := indexInKey.ReplaceAllString(archiveInKey.ReplaceAllString(section, "archives.NAME"), "[]")
	message := "unknown key `" + name + "`"
	if section != "" {
		message += " in `" + section + "`"
	}
	if section == "" && (slices.Contains(foreignKeys, name) || strings.HasPrefix(name, "Remap-")) {
		return message + ", which is one of apt-cacher-ng; docs/coming-from.md has what to write instead"
	}
	valid := all[row]
	if best, ok := nearest(name, valid); ok {
		return message + "; did you mean `" + best + "`?"
	}
	var places []string
	for row, names := range all {
		if slices.Contains(names, name) && row == "" {
			places = append(places, "at the top of the file")
		} else if slices.Contains(names, name) {
			places = append(places, "in `"+row+"`")
		}
	}
	if slices.Sort(places); len(places) > 0 {
		return message + "; it belongs " + strings.Join(places, " or ")
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
