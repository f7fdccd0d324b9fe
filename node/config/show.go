package config

import (
	"bytes"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Show writes the configuration as a file that Load would accept: every key
// in reading order with its meaning, the defaults filled in, and *** in the place
// of every secret.
func (c *Config) Show() ([]byte, error) {
	w := shower{explained: make(map[string]bool)}
	w.section(reflect.ValueOf(c).Elem(), "", 0)
	return w.Bytes(), nil
}

// shower writes YAML.
type shower struct {
	bytes.Buffer
	explained map[string]bool // keys whose meaning was given: once is enough for archives
}

// docColumn is where comments begin; before a line that is longer they get one of
// their own.
const docColumn = 32

// section writes the keys of a struct, without those named.
func (w *shower) section(v reflect.Value, path string, depth int, without ...string) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		if name == "-" || slices.Contains(without, name) {
			continue
		}
		keyPath := name
		if path != "" {
			keyPath = path + "." + name
		}
		w.key(name, v.Field(i), keyPath, depth)
	}
}

func (w *shower) key(name string, v reflect.Value, path string, depth int) {
	if archives, ok := v.Interface().([]Archive); ok {
		w.line(depth, name+":", path)
		for i := range archives {
			w.archive(&archives[i], path+".*", depth+1)
		}
		return
	}
	if upstreams, ok := v.Interface().([]Mirror); ok {
		w.line(depth, name+":", path)
		for i := range upstreams {
			w.upstream(&upstreams[i], path+"[]", depth+1)
		}
		return
	}
	if list, ok := v.Interface().([]string); ok && hasBlock(list) {
		w.line(depth, name+":", path)
		for _, item := range list {
			w.item(depth+1, item)
		}
		return
	}
	if isSection(v) {
		w.line(depth, name+":", path)
		w.section(v, path, depth+1)
		return
	}
	value := yamlScalar(v.Interface())
	if path == "upstream_client.proxy" {
		value = yamlText(redactURL(v.String()))
	}
	w.line(depth, name+": "+value, path)
}

// archive writes one archive: of the two ways to say where it comes from, the one
// that it uses.
func (w *shower) archive(a *Archive, path string, depth int) {
	unused := []string{"upstreams"}
	if len(a.Upstreams) > 0 {
		unused = []string{"upstream", "credentials"}
	}
	w.line(depth, yamlText(a.Name)+":", "")
	w.section(reflect.ValueOf(a).Elem(), path, depth+1, unused...)
}

// upstream writes one item of upstreams: its URL alone where that says it all.
func (w *shower) upstream(at *Mirror, path string, depth int) {
	if at.isSimple() {
		w.line(depth, "- "+yamlText(at.URL), "")
		return
	}
	w.line(depth, "- url: "+yamlText(at.URL), path+".url")
	w.section(reflect.ValueOf(at).Elem(), path, depth+1, "url")
}

// line writes one line and the meaning of its key.
func (w *shower) line(depth int, text, path string) {
	indent := strings.Repeat("  ", depth)
	doc := keyDoc(path)
	switch {
	case doc == "" || w.explained[path]:
		fmt.Fprintf(w, "%s%s\n", indent, text)
	case len(indent+text) > docColumn:
		fmt.Fprintf(w, "%s# %s\n%s%s\n", indent, doc, indent, text)
	default:
		fmt.Fprintf(w, "%-*s # %s\n", docColumn, indent+text, doc)
	}
	w.explained[path] = true
}

// item writes one item of a list that holds blocks of text.
func (w *shower) item(depth int, item string) {
	indent := strings.Repeat("  ", depth)
	if !strings.Contains(item, "\n") {
		fmt.Fprintf(w, "%s- %s\n", indent, yamlText(item))
		return
	}
	fmt.Fprintf(w, "%s- |\n", indent)
	for line := range strings.Lines(strings.TrimRight(item, "\n")) {
		fmt.Fprintf(w, "%s    %s\n", indent, strings.TrimRight(line, "\n"))
	}
}

func hasBlock(list []string) bool {
	for _, item := range list {
		if strings.Contains(item, "\n") {
			return true
		}
	}
	return false
}

// yamlScalar writes the value of a key that is not a section.
func yamlScalar(v any) string {
	switch v := v.(type) {
	case []string:
		items := make([]string, len(v))
		for i, s := range v {
			items[i] = yamlText(s)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case string:
		return yamlText(v)
	case Secret:
		return yamlText(v.String())
	case time.Duration:
		return formatDuration(v)
	case *time.Duration:
		if v == nil {
			return "null"
		}
		return formatDuration(*v)
	case fmt.Stringer: // Size, SizeLimit
		return v.String()
	}
	return fmt.Sprint(v) // bool, int
}

// plainText matches text that needs no quotes in YAML, in a list or out of it, and
// that is not read as anything but text.
var plainText = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9/._~+-]*(:/[A-Za-z0-9/._~+:-]*[A-Za-z0-9/])?$`)

func yamlText(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
		return strconv.Quote(s)
	}
	if plainText.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

// redactURL replaces the password of a URL.
func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return Redacted // it may be anywhere in there
	}
	if u.User == nil {
		return s
	}
	u.User = nil
	scheme, rest, _ := strings.Cut(u.String(), "://")
	return scheme + "://" + Redacted + "@" + rest
}
