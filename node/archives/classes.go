package archives

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/classes"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

// classFile keeps the archives of classes over a restart, below the state directory.
const classFile = "classes.json"

// member is an archive of a class that this node has.
type member struct {
	class  string
	by     string // who asked for it first, see Ensure
	made   time.Time
	used   atomic.Int64 // when a client or another node last asked for it; Unix seconds
	proven atomic.Bool  // a generation of one of its suites was adopted
	served atomic.Bool  // all rooms have it
}

func newMember(class, by string) *member {
	m := &member{class: class, by: by, made: time.Now()}
	m.touch()
	return m
}

func (m *member) touch()              { m.used.Store(time.Now().Unix()) }
func (m *member) madeAt() time.Time   { return m.made }
func (m *member) lastUsed() time.Time { return time.Unix(m.used.Load(), 0) }

// savedMember is a proven member as classFile has it.
type savedMember struct {
	Name string `json:"name"`
	Used int64  `json:"used"`
}

// members are the archives of classes by name. A map that was stored is not changed any more.
type members map[string]*member

func (ms members) names() []string { return slices.Sorted(maps.Keys(ms)) }

// of returns those that are in a configuration.
func (ms members) of(cfg *config.Config) members {
	stay := make(members)
	for name, m := range ms {
		if a, ok := cfg.Archive(name); ok && a.Class != "" {
			m.class = a.Class
			stay[name] = m
		}
	}
	return stay
}

// made are the members that there are.
func (t *Table) made() members { return *t.members.Load() }

// Proven notes that a suite of an archive has a generation.
func (t *Table) Proven(archive string) {
	if m := t.made()[archive]; m != nil && !m.proven.Swap(true) {
		t.unsaved.Store(true)
	}
}

// loadMembers are the archives that classFile has.
func loadMembers(state State, log *slog.Logger) members {
	all := make(members)
	text, err := state.ReadFile(classFile)
	var saved []savedMember
	if err == nil {
		err = json.Unmarshal(text, &saved)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("which archives of classes there were cannot be read; they are made again when somebody asks for them", "error", err)
	}
	for _, s := range saved {
		m := newMember("", "")
		m.used.Store(s.Used)
		m.proven.Store(true)
		m.served.Store(true)
		all[s.Name] = m
	}
	return all
}

// saveMembers writes down the proven members, if they are others than before.
func (a *Archives) saveMembers() {
	if !a.table.unsaved.Swap(false) {
		return
	}
	saved := []savedMember{}
	all := a.table.made()
	for _, name := range all.names() {
		if m := all[name]; m.proven.Load() {
			saved = append(saved, savedMember{name, m.used.Load()})
		}
	}
	text, err := json.Marshal(saved)
	if err == nil {
		err = a.cfg.State.WriteFile(classFile, text)
	}
	if err != nil {
		a.log.Warn("which archives of classes there are cannot be written down; after a restart they are made again", "error", err)
	}
}

// withMembers returns a copy of a configuration in which members of its classes, by their names, stand beside the other
// archives, and the classes apart. Names of no class are left out. What the configuration itself has at a member's URL
// goes before the member.
func withMembers(configured *config.Config, names []string) *config.Config {
	next := *configured
	next.Archives, next.Classes = nil, nil
	own := make(map[string]bool)
	for _, a := range configured.Archives {
		if a.IsClass() {
			next.Classes = append(next.Classes, a)
			continue
		}
		next.Archives = append(next.Archives, a)
		for _, at := range slices.Concat(a.MirrorURLs(), a.Aliases) {
			own[bareURL(at)] = true
		}
	}
	next.Classes = append(next.Classes, historyClasses(&next)...)
	set := Classes(&next)
	for _, name := range names {
		m, rest, ok := set.Named(name)
		if !ok || rest != "" || own[bareURL(m.URL)] {
			continue
		}
		m.Aliases = slices.DeleteFunc(m.Aliases, func(at string) bool { return own[bareURL(at)] })
		class, _ := classNamed(&next, m.Class)
		next.Archives = append(next.Archives, class.Member(m))
	}
	return &next
}

// historyClasses are classes that a configuration does not name: of each archive with a service of history, the archive as
// it was at every date. They are called history/NAME. A class of the configuration that has the same URLs is in their place.
func historyClasses(cfg *config.Config) (all []archiveconf.Archive) {
	configured := Classes(cfg)
	for _, a := range cfg.Archives {
		u := historyURL(a)
		name := historyPrefix + a.Name
		if u == nil || slices.ContainsFunc(cfg.Archives, func(other archiveconf.Archive) bool {
			return other.Name == name || strings.HasPrefix(other.Name, name+"/")
		}) {
			continue
		}
		elements := strings.Split(u.Path, "/")
		for i, e := range elements {
			if strings.Contains(e, "{") {
				elements[i] = "*"
			}
		}
		class := a
		class.Name, class.Upstream = name, u.Scheme+"://"+u.Host+strings.Join(elements, "/")
		class.Upstreams, class.Aliases, class.Suites, class.History = nil, nil, nil, ""
		class.Credentials = archiveconf.Archive{}.Credentials
		class.Immutable = true // nobody is led there for a date that may still change
		if c, err := classes.New(name, class.Upstream, nil); err != nil || slices.ContainsFunc(configured, c.Overlaps) {
			continue
		}
		all = append(all, class)
	}
	return all
}

// historyPrefix begins the names of classes that follow from `history`.
const historyPrefix = "history/"

// historyURL is the URL of an archive's service of history, with placeholders; nil where there is none.
func historyURL(a archiveconf.Archive) *url.URL {
	if a.History == "" {
		return nil
	}
	u, err := url.Parse(a.History)
	if err == nil {
		u, err = upstream.HistoryURL(u)
	}
	if err != nil {
		return nil // a check refuses it
	}
	return u
}

func bareURL(at string) string {
	_, bare, _ := strings.Cut(at, "://")
	return bare
}

// Classes are the classes of a configuration that is in force.
func Classes(cfg *config.Config) (set classes.Set) {
	for _, a := range cfg.Classes {
		if c, err := classes.New(a.Name, a.MainURL(), a.Aliases); err == nil { // a check refuses others
			set = append(set, c)
		}
	}
	return set
}

func classNamed(cfg *config.Config, name string) (archiveconf.Archive, bool) {
	i := slices.IndexFunc(cfg.Classes, func(a archiveconf.Archive) bool { return a.Name == name })
	if i < 0 {
		return archiveconf.Archive{}, false
	}
	return cfg.Classes[i], true
}

// classTable is the classes as the frontend knows them.
type classTable struct {
	archives *Archives
	cfg      *config.Config
	set      classes.Set
}

var _ front.Classes = classTable{}

// classesOf is the table for a configuration; nil where that has no class.
func (a *Archives) classesOf(cfg *config.Config) front.Classes {
	if len(cfg.Classes) == 0 {
		return nil
	}
	return classTable{a, cfg, Classes(cfg)}
}

func (t classTable) At(host, path string) (archive, rest string, ok bool) {
	a, rest, ok := t.set.At(host, path)
	return a.Name, rest, ok
}

// Named has no archive for a name with a value left out, as in ppa/OWNER/dists/noble, where what follows the name would
// be taken for the value.
func (t classTable) Named(path string) (archive, rest string, ok bool) {
	m, rest, ok := t.set.Named(path)
	if !ok {
		return "", "", false
	}
	class, _ := classNamed(t.cfg, m.Class)
	format := keyless(class.Format)
	for value := range strings.SplitSeq(strings.TrimPrefix(m.Name, m.Class+"/"), "/") {
		if info := format.PathInfo(value); info.Root || info.Package || slices.Contains(format.Heads(), value) {
			return "", "", false
		}
	}
	return m.Name, rest, true
}

func (t classTable) Forms() []string { return t.set.Forms() }

func (t classTable) Guard(archive string) (allow, deny []netip.Prefix) {
	class, _ := t.set.Of(archive)
	a, _ := classNamed(t.cfg, class.Name)
	return a.Allow, a.Deny
}

func (t classTable) Make(archive string, client netip.Addr) error {
	return t.archives.Ensure(archive, networkOf(client))
}

// networkOf is the part of an address that stands for one client: a host of IPv6 has a whole /64 to itself.
func networkOf(client netip.Addr) string {
	if client.Is6() {
		if network, err := client.Prefix(64); err == nil {
			return network.String()
		}
	}
	return client.String()
}

// Ensure has an archive of a class served, if it is one. by is the client that asks for it, or another node: that
// asks by the archive's name before any client here does.
func (a *Archives) Ensure(name, by string) error {
	switch m := a.table.made()[name]; {
	case m == nil && a.table.Has(name):
		return nil // it is no member of a class
	case m != nil && m.served.Load():
		m.touch()
		return nil
	}
	// While another request makes it, the table has it before all rooms do: that request holds the lock.
	a.mu.Lock()
	defer a.mu.Unlock()
	all := maps.Clone(a.table.made())
	class, ok := Classes(a.table.Config()).Of(name)
	if !ok || all[name] != nil {
		return nil // a request for an archive that cannot exist gets its error from the front
	}
	gone, err := makeRoom(a.table.Config(), class.Name, by, all, time.Now())
	if err != nil {
		a.classFull.WithLabelValues(class.Name).Inc()
		return err
	}
	delete(all, gone)
	all[name] = newMember(class.Name, by)
	if all, err = a.putMembers(all); err != nil {
		a.log.Error("an archive of a class cannot be served", "archive", name, "error", err)
		return &proto.Unavailable{Reason: "the archive " + name + " cannot be served", Err: err}
	}
	if all[name] == nil {
		return nil // the configuration has its URL
	}
	all[name].served.Store(true)
	log := a.log.With("archive", name, "client", by)
	if gone != "" {
		log = log.With("replaces", gone)
	}
	log.Info("an archive of a class was asked for and is served now")
	return nil
}

// putMembers puts other members in force, and returns those of them that the configuration has. It needs mu.
func (a *Archives) putMembers(all members) (members, error) {
	next := withMembers(a.configured, all.names())
	all = all.of(next)
	was := a.table.members.Swap(&all)
	p, err := a.plan(next)
	if err == nil {
		err = a.apply(p)
	}
	if err != nil {
		a.table.members.Store(was)
		return nil, err
	}
	a.table.unsaved.Store(true)
	return all, nil
}

// dropUnproven ends the members without a Release that nobody has asked for lately.
func (a *Archives) dropUnproven(now time.Time) {
	if len(a.table.made().unproven(now)) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := maps.Clone(a.table.made())
	dropped := all.unproven(now)
	for _, name := range dropped {
		delete(all, name)
	}
	if _, err := a.putMembers(all); err != nil {
		a.log.Error("archives of classes that have no Release cannot be dropped", "archives", dropped, "error", err)
		return
	}
	a.log.Info("archives of classes were dropped: no Release of them was found, and nobody asks for them any more", "archives", dropped)
}
