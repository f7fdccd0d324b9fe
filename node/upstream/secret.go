package upstream

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
)

// hidden is what every way of printing a secret shows in its place.
const hidden = "***"

// Secret is a string that must not be seen: a password or a token. However it is
// printed, logged or marshalled it reads "***", or "" where there is none. The
// zero Secret is "none".
//
// The text stands behind a pointer, for fmt reads unexported fields by reflection
// where a Secret is itself in one, and calls no method there.
type Secret struct{ text *string }

// NewSecret wraps s; the empty string is no secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the text itself. It must not go into a log or an error.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return hidden
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return `upstream.Secret("` + s.String() + `")` }

// LogValue is what slog prints.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON writes what String shows.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText writes what String shows.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text as the secret, so that a configuration may hold one.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// Credentials prove to an upstream who we are: either a user with a password, or
// a bearer token. Where both are given the token is used. They print as "***"
// altogether, for in many schemes the user name is the token.
type Credentials struct {
	User     string
	Password Secret
	Bearer   Secret
}

// IsZero reports whether there are none.
func (c Credentials) IsZero() bool { return c.User == "" && c.Password.IsZero() && c.Bearer.IsZero() }

func (c Credentials) String() string {
	if c.IsZero() {
		return ""
	}
	return hidden
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
	case c.IsZero():
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+c.Password.Reveal()))
}
