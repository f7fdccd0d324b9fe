package keys

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// Render writes a section as a file: every key in reading order with its meaning, and *** in the place of
// every secret. Keys with ",omitempty" that are not in use are left out. It writes the summary of each key,
// or with details all of its documentation.
func Render(section any, docs Docs, details bool) ([]byte, error) {
	comments := make(yaml.CommentMap)
	explained := make(map[string]bool) // once is enough for the entries of a list
	short := make(map[string]bool)     // entries that are written in one word
	Walk(section, func(f Field) bool {
		if strings.Contains(f.Tag.Get("yaml"), ",omitempty") && isEmpty(f.Value) {
			return false
		}
		if f.IsList() {
			for i := range f.Value.Len() {
				short[fmt.Sprintf("%s[%d]", f.Path, i)] = isShort(f.Value.Index(i))
			}
		}
		summary, more := docs.Of(f)
		if in, _ := splitKey(f.Path); summary == "" || explained[f.Row] || short[in] {
			return true
		}
		explained[f.Row] = true
		if details && more != "" {
			summary += " " + more
		}
		lines := Wrap(summary, 96-2*strings.Count(f.Path, "."))
		for i := range lines {
			lines[i] = " " + lines[i]
		}
		comments["$."+f.Path] = []*yaml.Comment{yaml.HeadComment(lines...)}
		return true
	})
	options := []yaml.EncodeOption{yaml.WithComment(comments), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true)}
	for _, n := range notations {
		if n.write != nil {
			options = append(options, n.write)
		}
	}
	return yaml.MarshalWithOptions(section, options...)
}

func isEmpty(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
		return z.IsZero()
	}
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

// Wrap breaks a text into lines.
func Wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
