package upstream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unique"
)

// Redacted stands in the place of a secret, however it is printed.
const Redacted = "***"

// Secret is a string that must not be seen: a password or a token. However it is
// printed, logged or marshalled it reads "***", or "" where there is none. Two Secrets
// are equal (==) if their texts are. The zero Secret is "none".
//
// The text stands behind a handle, which is a pointer: fmt reads unexported fields by
// reflection where a Secret is itself in one, and calls no method there.
type Secret struct{ text unique.Handle[string] }

// NewSecret wraps s; the empty string is no secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{unique.Make(s)}
}

// Reveal returns the text itself. It must not go into a log or an error.
func (s Secret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return s.text.Value()
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return Redacted
}

// Format keeps the secret out of every verb, %q, %x and %#v among them.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is what slog prints.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the secret out of JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Credentials prove to an upstream who we are: either a user with a password, or a
// bearer token. If both are given the token is used. A query can stand beside them or alone.
// In a configuration each secret is written in slot or in a file of its own; Resolve reads the files. Credentials print
// as "***" altogether, because in many schemes the user name is the token. The tags are for
// node/config, which reads and documents them.
type Credentials struct {
	User         string `yaml:"user,omitempty" doc:"Name for HTTP basic authentication."`
	Password     Secret `yaml:"password,omitempty" doc:"Password of the user."`
	PasswordFile string `yaml:"password_file,omitempty" path:"file" doc:"File that holds the password."`
	Bearer       Secret `yaml:"bearer,omitempty" doc:"Bearer token, instead of user and password."`
	BearerFile   string `yaml:"bearer_file,omitempty" path:"file" doc:"File that holds the token."`
	Query        Secret `yaml:"query,omitempty" doc:"Query for the URL of every file, such as the token of SUSE's update server."`
	QueryFile    string `yaml:"query_file,omitempty" path:"file" doc:"File that holds the query."`
}

// IsZero reports whether there are none.
func (c Credentials) IsZero() bool { return c == Credentials{} }

// Resolve returns the credentials with the secrets of their files in slot. Leading and
// trailing space of a file is not part of its secret.
func (c Credentials) Resolve() (resolved Credentials, err error) {
	resolved.User = c.User
	if resolved.Password, err = secretOrFile(c.Password, c.PasswordFile); err != nil {
		return Credentials{}, fmt.Errorf("reading password_file: %w", err)
	}
	if resolved.Bearer, err = secretOrFile(c.Bearer, c.BearerFile); err != nil {
		return Credentials{}, fmt.Errorf("reading bearer_file: %w", err)
	}
	if resolved.Query, err = secretOrFile(c.Query, c.QueryFile); err != nil {
		return Credentials{}, fmt.Errorf("reading query_file: %w", err)
	}
	return resolved, nil
}

// maxSecret bounds a file that holds a secret in bytes.
const maxSecret = 64 << 10

func secretOrFile(inPlace Secret, file string) (Secret, error) {
	if file == "" {
		return inPlace, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return Secret{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return Secret{}, err
	}
	if len(text) > maxSecret {
		return Secret{}, fmt.Errorf("%s is longer than %d bytes", file, maxSecret)
	}
	return NewSecret(string(bytes.TrimSpace(text))), nil
}

func (c Credentials) String() string {
	if c.IsZero() {
		return ""
	}
	return Redacted
}

// GoString is what %#v prints.
func (c Credentials) GoString() string { return `upstream.Credentials("` + c.String() + `")` }

// LogValue is what slog prints.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON writes what String shows.
func (c Credentials) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// header is the value of the Authorization field, "" for no credentials.
func (c Credentials) header() string {
	switch {
	case !c.Bearer.IsZero():
		return "Bearer " + c.Bearer.Reveal()
	case c.User == "" && c.Password.IsZero():
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+c.Password.Reveal()))
}

// query is what follows the ? in a URL, "" for nothing. People copy it with its ?.
func (c Credentials) query() string { return strings.TrimPrefix(c.Query.Reveal(), "?") }

// validQuery reports whether a text can be the query of a URL (RFC 3986, section 3.4).
func validQuery(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("\"#<>", c) })
}
