package keys

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// zoo is a configuration with every kind of key.
type zoo struct {
	Name   string        `yaml:"name" doc:"The name.\n\nIt is short."`
	Opens  time.Duration `yaml:"opens" default:"9h" check:"second" reload:"no" doc:"When it opens."`
	Houses houses        `yaml:"houses,omitempty" doc:"The houses."`
	Shop   shop          `yaml:"shop" reload:"no" doc:"The shop."`
}

type houses []house

func (all houses) MarshalYAML() (any, error) {
	var named yaml.MapSlice
	for _, h := range all {
		named = append(named, yaml.MapItem{Key: h.Name, Value: h})
	}
	return named, nil
}

type house struct {
	Name    string   `yaml:"-" entry:"name"`
	Animals []animal `yaml:"animals,omitempty" doc:"Who lives there."`
}

type animal struct {
	Kind string `yaml:"kind" short:"an animal" check:"kind" doc:"What it is."`
	Legs int    `yaml:"legs" default:"4" check:"0-8" doc:"How many legs it has."`
}

func (a animal) MarshalYAML() (any, error) {
	if IsShort(a) {
		return a.Kind, nil
	}
	type plain animal
	return plain(a), nil
}

type shop struct {
	Open   bool     `yaml:"open" default:"true" reload:"yes" doc:"Whether it is open."`
	Prices []string `yaml:"prices,flow" default:"[low]" doc:"What it takes."`
}

// Sections of every kind are read, with the defaults in place of what is left out, and written back.
func TestSectionsOfEveryKind(t *testing.T) {
	z := New[zoo]()
	d := Decode("f", []byte("name: north\nhouses:\n  big.cats: {animals: [lion, {kind: snake, legs: 0}]}\n  empty: {}\nshop: {prices: high}\n"), &z, nil)
	if len(d.Problems) > 0 {
		t.Fatal(d.Problems)
	}
	cats := z.Houses[0]
	if z.Opens != 9*time.Hour || !z.Shop.Open || !slices.Equal(z.Shop.Prices, []string{"high"}) || len(z.Houses) != 2 || z.Houses[1].Name != "empty" ||
		cats.Name != "big.cats" || fmt.Sprint(cats.Animals) != "[{lion 4} {snake 0}]" || !IsShort(cats.Animals[0]) || IsShort(cats.Animals[1]) {
		t.Errorf("%+v", z)
	}
	var rows, waits []string
	Walk(&z, func(f Field) bool {
		rows = append(rows, f.Row)
		if !f.Reload {
			waits = append(waits, f.Path)
		}
		return true
	})
	if got := strings.Join(rows, " "); got != "name opens houses houses.NAME houses.NAME.animals houses.NAME.animals[].kind houses.NAME.animals[].legs "+
		"houses.NAME.animals[].kind houses.NAME.animals[].legs houses.NAME houses.NAME.animals shop shop.open shop.prices" {
		t.Error(got)
	}
	if got := strings.Join(waits, " "); got != "opens shop shop.prices" {
		t.Errorf("wait for a restart: %s", got)
	}
	if p := d.At("houses.'big.cats'.animals[1].legs", "x"); p.Line != 3 || p.Col == 0 {
		t.Errorf("%v", p)
	}
	if p := d.At("shop.open", "x"); p.Line != 5 || p.Col != 1 {
		t.Errorf("a key that is left out has not the place of its section: %v", p)
	}
	text, err := Render(&z, nil, true)
	if err != nil || !strings.Contains(string(text), "# The name. It is short.\nname: north\n") || !strings.Contains(string(text), "prices: [high]") {
		t.Fatalf("%v\n%s", err, text)
	}
	again := New[zoo]()
	if d := Decode("again", text, &again, nil); len(d.Problems) > 0 || !reflect.DeepEqual(again, z) {
		t.Errorf("%v: %+v is read from\n%s", d.Problems, again, text)
	}
}

// Every problem has its place, and says what to write.
func TestProblemsOfEveryKind(t *testing.T) {
	z := New[zoo]()
	d := Decode("f", []byte("nam: x\nlegs: 4\nhouses: {a: {animals: [[x], {kind: cat, legs: x}]}}\nshop: &a {}\nopens: 1ms\n"), &z, func(key string) string {
		if key == "legs" {
			return ", which only animals have"
		}
		return ""
	})
	c := Checker{Texts: map[string]func(string) string{"kind": func(text string) string {
		if text == "cat" {
			return "is everywhere"
		}
		return ""
	}}}
	Walk(&z, func(f Field) bool { c.Tags(f); return true })
	for _, p := range c.Problems {
		d.ProblemAt(p.Key, p.Message)
	}
	slices.SortStableFunc(d.Problems, Problem.Compare)
	want := "f:1:1: unknown key `nam`; did you mean `name`?\n" +
		"f:2:1: unknown key `legs`, which only animals have\n" +
		"f:3:24: houses.a.animals[0]: expected an animal, or keys with values, not a list\n" +
		"f:3:30: houses.a.animals[1].kind: is everywhere\n" +
		"f:3:47: houses.a.animals[1].legs: expected a whole number, not `x`\n" +
		"f:4:7: shop: anchors, aliases and tags of YAML are not used here; write the value itself\n" +
		"f:5:1: opens: must be at least 1s"
	if got := (&Error{d.Problems}).Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
