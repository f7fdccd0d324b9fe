package keys

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/files"
)

// Finding is a problem or warning that belongs to a key.
type Finding struct{ Key, Message string }

// Checker collects what the types of keys cannot say: that values make sense, alone and together, and that
// the files they name are there.
type Checker struct {
	// NoFiles takes the files that the configuration names as given: those of another machine.
	NoFiles bool
	// Service is the user that must be able to read them; nil for this one alone.
	Service *files.User

	// Texts are the checks of texts by their word in a tag: what is wrong, "" for nothing.
	Texts map[string]func(text string) string

	Problems, Warnings []Finding
	unusable           map[string]bool // keys whose file cannot be read: one problem each is enough
}

// Problem records what makes the configuration unusable.
func (c *Checker) Problem(key, format string, args ...any) {
	c.Problems = append(c.Problems, Finding{key, key + ": " + fmt.Sprintf(format, args...)})
}

// Warning records what works and may not be meant.
func (c *Checker) Warning(key, format string, args ...any) {
	c.Warnings = append(c.Warnings, Finding{key, key + ": " + fmt.Sprintf(format, args...)})
}

// Tags checks the value of a key as its tags say.
func (c *Checker) Tags(f Field) {
	check := f.Tag.Get("check")
	switch {
	case check == "":
	case c.Texts[check] != nil:
		f.Texts(func(key string, text *string) {
			if why := c.Texts[check](*text); why != "" && (*text != "" || key != f.Path) { // "" is not given
				c.Problem(key, "%s", why)
			}
		})
	case check == "positive":
		if f.Value.Int() <= 0 {
			c.Problem(f.Path, "must be more than 0")
		}
	case check == "second":
		if f.Value.Int() < int64(time.Second) {
			c.Problem(f.Path, "must be at least 1s")
		}
	case strings.Contains(check, "|"):
		c.oneOf(f.Path, f.Value.String(), strings.Split(check, "|"))
	default:
		var least, most int64
		if _, err := fmt.Sscanf(check, "%d-%d", &least, &most); err != nil {
			panic(f.Row + ": no such check: " + check) // every test would see it
		}
		if n := f.Value.Int(); n < least || n > most {
			c.Problem(f.Path, "%d is not between %d and %d", n, least, most)
		}
	}
}

func (c *Checker) oneOf(key, value string, valid []string) {
	if slices.Contains(valid, value) {
		return
	}
	if best, ok := Nearest(value, valid); ok {
		c.Problem(key, "%q is none of %s; did you mean %s?", value, strings.Join(valid, ", "), best)
		return
	}
	c.Problem(key, "%q is none of %s", value, strings.Join(valid, ", "))
}

// File checks a file that the configuration names, if it does: use reads it and says what is wrong.
func (c *Checker) File(key, name string, use func(name string) error) bool {
	if name == "" || c.NoFiles {
		return true
	}
	if c.unusable[key] {
		return false
	}
	if err := use(name); err != nil {
		if c.unusable == nil {
			c.unusable = make(map[string]bool)
		}
		c.unusable[key] = true
		c.Problem(key, "%s", files.Trouble(name, err, ""))
		return false
	}
	return true
}

// Unusable reports whether the file of one of the keys cannot be used.
func (c *Checker) Unusable(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return c.unusable[key] })
}

// KeyPair checks a certificate and its key, which go together, of a section.
func (c *Checker) KeyPair(key, cert, private string) {
	switch {
	case (cert == "") != (private == ""):
		c.Problem(key, "cert and key go together; one of them is missing")
	case cert == "" || c.NoFiles || c.Unusable(key+".cert", key+".key"):
	default:
		if _, err := tls.LoadX509KeyPair(cert, private); err != nil {
			c.Problem(key, "cert and key cannot be used: %v", err)
		}
	}
}

// Readable warns of a file that the user of the service may not read, though this one may. What is public
// may be made readable for everybody.
func (c *Checker) Readable(key, name string, public bool) {
	if why := c.Unreadable(name, public); why != "" {
		c.Warning(key, "%s", why)
	}
}

// Unreadable says why the user of the service may not read a file, and what to do; "" if it may.
func (c *Checker) Unreadable(name string, public bool) string {
	if name == "" || c.Service == nil || c.NoFiles {
		return ""
	}
	at, isDir := c.Service.Refuses(name)
	user := c.Service.Name
	switch {
	case at == "":
		return ""
	case isDir:
		return fmt.Sprintf("the service's user %s may not enter %s, and so cannot read %s; move the file, or run: chmod a+x %s", user, at, name, at)
	case public:
		return fmt.Sprintf("the service's user %s may not read %s; run: chmod a+r %s", user, at, at)
	}
	return fmt.Sprintf("the service's user %s may not read %s; run: chgrp %s %s && chmod g+r %s", user, at, user, at, at)
}
