package archives

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/keyrings"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// The rooms that get their part of the archives.
type (
	// Upstream fetches from their mirrors.
	Upstream interface {
		Reconfigure(cfg upstream.Config) error
	}
	// Catalog believes things of their suites.
	Catalog interface {
		Reconfigure(archives []catalog.Archive) error
	}
	// Front answers hosts that ask for them.
	Front interface {
		Apply(rules front.Rules) error
	}
	// Cluster divides the caps on their hosts.
	Cluster interface {
		Relimit(cfg *config.Config)
		// Reshare reports to the other nodes what is in force now, with the keyrings as they are.
		Reshare(cfg *config.Config) error
	}
	// State keeps small files durably.
	State interface {
		WriteFile(name string, data []byte) error
		ReadFile(name string) ([]byte, error) // fs.ErrNotExist where there is none
	}
)

// Config is what New needs.
type Config struct {
	// Configured is what the operator wrote.
	Configured *config.Config
	// Table is what Archives keeps up to date.
	Table *Table
	// Lists has not started yet.
	Lists *mirrorlist.Lists
	// Client is what upstream needs besides what the configuration says.
	Client   upstream.Config
	Upstream Upstream
	Catalog  Catalog
	Front    Front
	Cluster  Cluster // nil: the node stands alone
	State    State
	Logger   *slog.Logger
}

// Archives are the archives of a node that runs. Safe for concurrent use.
type Archives struct {
	cfg   Config
	table *Table
	lists *mirrorlist.Lists
	log   *slog.Logger

	classFull *prometheus.CounterVec

	mu         sync.Mutex     // of a change
	configured *config.Config // what the operator wrote; guarded by mu
	keyrings   string         // keyringsStamp of what is in force; guarded by mu

	end   chan struct{} // closed by Stop
	ended chan struct{} // closed when the watch is over
}

// New puts the archives of the configuration in force. The rooms know none before.
func New(cfg Config) (*Archives, error) {
	a := &Archives{
		cfg: cfg, table: cfg.Table, lists: cfg.Lists, log: cfg.Logger, configured: cfg.Configured,
		end: make(chan struct{}), ended: make(chan struct{}),
		classFull: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_class_full_total", Help: "Requests for a further archive of a class whose max_archives were all in use, by class.",
		}, []string{"class"}),
	}
	a.lists.Use(mirrorlist.KeysOf(a.table.Config()))
	p, err := a.plan(a.table.Config())
	if err != nil {
		return nil, err
	}
	return a, a.apply(p)
}

// Collectors returns the metrics of the archives, for the caller to register.
func (a *Archives) Collectors() []prometheus.Collector { return []prometheus.Collector{a.classFull} }

// plan is what the rooms need for the archives of a configuration.
type plan struct {
	cfg      *config.Config
	upstream upstream.Config
	front    front.Rules
	unlisted map[string][]mirrorlist.Key // archives that no mirror is known of, with the lists they wait for
	keyrings string
	catalog  []catalog.Archive
}

// plan reads what the archives of a configuration need, and changes nothing.
func (a *Archives) plan(cfg *config.Config) (plan, error) {
	p, err := a.planMirrors(cfg)
	if err != nil {
		return p, err
	}
	p.keyrings = keyringsStamp(cfg) // before the files are read: a later change shows the next time
	p.catalog, err = catalogArchives(cfg)
	return p, err
}

// planMirrors is a plan for the rooms that know mirrors. The lists of cfg are in use.
func (a *Archives) planMirrors(cfg *config.Config) (plan, error) {
	p := plan{cfg: cfg, unlisted: make(map[string][]mirrorlist.Key)}
	mirrors := make(map[string][]archiveconf.Mirror, len(cfg.Archives))
	for _, archive := range cfg.Archives {
		mirrors[archive.Name] = a.lists.MirrorsOf(cfg, archive)
		if len(mirrors[archive.Name]) > 0 {
			continue
		}
		for _, at := range archive.Mirrors() {
			p.unlisted[archive.Name] = append(p.unlisted[archive.Name], mirrorlist.KeyOf(at))
		}
	}
	var err error
	if p.front, err = a.frontRules(cfg, mirrors); err != nil {
		return p, err
	}
	p.upstream, err = upstreamConfig(a.cfg.Client, cfg, mirrors)
	return p, err
}

// apply puts a plan in force. It needs mu.
func (a *Archives) apply(p plan) error {
	if err := a.cfg.Upstream.Reconfigure(p.upstream); err != nil {
		return err
	}
	// From here on upstream knows the new archives. The frontend, which lets requests for them in, comes
	// last.
	a.table.put(p.cfg, p.unlisted)
	if p.catalog != nil {
		if err := a.cfg.Catalog.Reconfigure(p.catalog); err != nil {
			return err
		}
		a.keyrings = p.keyrings
	}
	if err := a.cfg.Front.Apply(p.front); err != nil {
		return err
	}
	if a.cfg.Cluster != nil {
		a.cfg.Cluster.Relimit(p.cfg)
	}
	for _, class := range p.cfg.Classes {
		a.classFull.WithLabelValues(class.Name) // the series is there before anything is refused
	}
	return nil
}

// Reload puts another configuration in force: configured, as config.Change made it. also is called when
// all that can be wrong with the archives has been looked for. After an error of either, everything is
// as it was before.
func (a *Archives) Reload(configured *config.Config, also func() error) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := withMembers(configured, a.table.made().names())
	a.lists.Use(mirrorlist.KeysOf(next))
	defer func() {
		if err != nil {
			a.lists.Use(mirrorlist.KeysOf(a.table.Config()))
		}
	}()
	p, err := a.plan(next)
	if err != nil {
		return err
	}
	if err := also(); err != nil {
		return err
	}
	if err := a.apply(p); err != nil {
		return err
	}
	stay := a.table.made().of(next)
	a.table.members.Store(&stay)
	a.configured = configured
	a.lists.Refresh()
	return nil
}

// Configured is what the operator wrote, as far as it is in force.
func (a *Archives) Configured() *config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.configured
}

// keyringsEvery is how often the directories of signed_by are looked at.
const keyringsEvery = 2 * time.Second

// Start has the lists of mirrors read, takes up keyrings that appear in a directory of signed_by, change
// or go, and drops members of classes that lead nowhere, until Stop.
func (a *Archives) Start() {
	a.lists.Start(a.listsChanged)
	go func() {
		defer close(a.ended)
		tick := time.NewTicker(keyringsEvery)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				a.rereadKeyrings()
				a.dropUnproven(now)
				a.saveMembers()
			case <-a.end:
				return
			}
		}
	}()
}

// Stop ends what Start began, and notes which archives of classes there are.
func (a *Archives) Stop() {
	a.lists.Close()
	close(a.end)
	<-a.ended
	a.table.unsaved.Store(len(a.table.made()) > 0) // when they were last used
	a.saveMembers()
}

// listsChanged puts the mirrors in force that the lists name now.
func (a *Archives) listsChanged() {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, err := a.planMirrors(a.table.Config())
	if err == nil {
		err = a.apply(p)
	}
	if err != nil {
		a.log.Error("what a new list of mirrors names cannot be used; the mirrors before it stay", "error", err)
	}
}

func keyringsStamp(cfg *config.Config) string {
	var entries []string
	for _, a := range cfg.Archives {
		entries = append(entries, a.SignedBy...)
	}
	return keyrings.Stamp(entries)
}

// rereadKeyrings puts the keyrings in force as they are now. If they cannot be read, those of before stay.
func (a *Archives) rereadKeyrings() {
	a.mu.Lock()
	defer a.mu.Unlock()
	cfg := a.table.Config()
	stamp := keyringsStamp(cfg)
	if stamp == a.keyrings {
		return
	}
	a.keyrings = stamp
	archives, err := catalogArchives(cfg)
	if err == nil {
		err = a.cfg.Catalog.Reconfigure(archives)
	}
	if err == nil && a.cfg.Cluster != nil {
		err = a.cfg.Cluster.Reshare(a.configured)
	}
	if err != nil {
		a.log.Error("the keyrings in signed_by have changed and cannot be read; those of before stay in force", "error", err)
		return
	}
	a.log.Info("the keyrings in signed_by were read again")
}
