package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// AuthEntry is one "machine" of an auth.conf file: where its credentials are due.
type AuthEntry struct {
	// Scheme is the protocol asked for; "" means https only, as in apt.
	Scheme string
	Host   string
	Port   string // "" = any
	Path   string // what the path of a URL must start with; "" = any
	Credentials
}

func (e AuthEntry) String() string {
	s := e.Host
	if e.Port != "" {
		s += ":" + e.Port
	}
	if e.Scheme != "" {
		s = e.Scheme + "://" + s
	}
	return "machine " + s + e.Path
}

// GoString is what %#v prints.
func (e AuthEntry) GoString() string { return `upstream.AuthEntry("` + e.String() + `")` }

// LogValue is what slog prints.
func (e AuthEntry) LogValue() slog.Value { return slog.StringValue(e.String()) }

// MarshalJSON shows the entry without its credentials.
func (e AuthEntry) MarshalJSON() ([]byte, error) { return json.Marshal(e.String()) }

// ParseAuthConf reads the netrc-like format of apt_auth.conf(5): tokens apart by
// blanks or line ends, "machine [protocol://]host[:port][/path]" followed by
// "login NAME" and "password STRING"; unknown tokens are ignored. A token that
// begins with '#' where a keyword could stand hides the rest of its line.
//
// name is used in errors only; no error shows a login or a password.
func ParseAuthConf(name string, data []byte) ([]AuthEntry, error) {
	var entries []AuthEntry
	var keyword string // the keyword whose value comes next
	var keywordLine int
	lineNo := 0
	for line := range bytes.Lines(data) {
		lineNo++
		if bytes.IndexByte(line, 0) >= 0 {
			return nil, fmt.Errorf("%s:%d: this is not a text file", name, lineNo)
		}
		for _, token := range strings.Fields(string(line)) {
			if keyword == "" {
				if strings.HasPrefix(token, "#") {
					break
				}
				switch token {
				case "machine", "login", "password":
					keyword, keywordLine = token, lineNo
				}
				continue
			}
			if keyword == "machine" {
				entry, err := parseMachine(token)
				if err != nil {
					return nil, fmt.Errorf("%s:%d: %w", name, lineNo, err)
				}
				entries = append(entries, entry)
			} else {
				if len(entries) == 0 {
					return nil, fmt.Errorf("%s:%d: %q stands before the first \"machine\"", name, lineNo, keyword)
				}
				last := &entries[len(entries)-1]
				if keyword == "login" {
					last.User = token
				} else {
					last.Password = NewSecret(token)
				}
			}
			keyword = ""
		}
	}
	if keyword != "" {
		return nil, fmt.Errorf("%s:%d: nothing follows %q", name, keywordLine, keyword)
	}
	return entries, nil
}

// parseMachine reads [protocol://]host[:port][/path]. Its errors do not repeat
// the token, which may be a misplaced password.
func parseMachine(token string) (AuthEntry, error) {
	var e AuthEntry
	rest := token
	if scheme, after, ok := strings.Cut(token, "://"); ok {
		if scheme == "" {
			return AuthEntry{}, errors.New(`"machine" has an empty protocol`)
		}
		e.Scheme, rest = strings.ToLower(scheme), after
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		rest, e.Path = rest[:i], rest[i:]
	}
	if strings.Contains(rest, "@") {
		return AuthEntry{}, errors.New(`"machine" names a user; write it after "login"`)
	}
	e.Host, e.Port = rest, ""
	// A colon inside brackets belongs to an IPv6 address.
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		e.Host, e.Port = rest[:i], rest[i+1:]
		if e.Port == "" || strings.Trim(e.Port, "0123456789") != "" {
			return AuthEntry{}, errors.New(`"machine" has a port that is not a number`)
		}
	}
	e.Host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(e.Host, "["), "]"))
	if e.Host == "" {
		return AuthEntry{}, errors.New(`"machine" names no host`)
	}
	return e, nil
}

// ReadAuthConf reads files in the format of ParseAuthConf, in the order given. A
// path that is a directory stands for its *.conf files in the order of their
// names, as in apt. What does not exist is skipped: apt's own default paths are
// usually not there.
func ReadAuthConf(paths ...string) ([]AuthEntry, error) {
	var all []AuthEntry
	for _, path := range paths {
		files, err := authFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("upstream: cannot read credentials: %w", err)
			}
			entries, err := ParseAuthConf(file, data)
			if err != nil {
				return nil, err
			}
			all = append(all, entries...)
		}
	}
	return all, nil
}

func authFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("upstream: cannot read credentials: %w", err)
	case !info.IsDir():
		return []string{path}, nil
	}
	names, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("upstream: cannot read credentials: %w", err)
	}
	var files []string
	for _, entry := range names {
		if strings.HasSuffix(entry.Name(), ".conf") && !strings.HasPrefix(entry.Name(), ".") && !entry.IsDir() {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	slices.Sort(files)
	return files, nil
}

// matches follows apt_auth.conf(5): without a protocol only https counts; without
// a port any port does, but a port that is given must stand in the URL too; the
// path of the URL must start with the path given, letter by letter.
func (e AuthEntry) matches(u *url.URL) bool {
	if e.Scheme == "" && u.Scheme != "https" || e.Scheme != "" && e.Scheme != u.Scheme {
		return false
	}
	return strings.EqualFold(e.Host, u.Hostname()) &&
		(e.Port == "" || e.Port == u.Port()) &&
		strings.HasPrefix(u.Path, e.Path)
}

// credentialsFor returns the credentials of the first entry that matches u and
// holds any; the zero Credentials where none does.
func credentialsFor(entries []AuthEntry, u *url.URL) Credentials {
	for _, e := range entries {
		if !e.Credentials.IsZero() && e.matches(u) {
			return e.Credentials
		}
	}
	return Credentials{}
}
