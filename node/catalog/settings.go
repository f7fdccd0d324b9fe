package catalog

import (
	_ "embed"
	"time"
)

//go:embed settings.go
var SettingsSource string // node/config prints the comments of the keys

// Stale says what happens when a suite's Release cannot be renewed: it is served past its
// Valid-Until for a while, and the operator hears of it before.
type Stale struct {
	// How long an expired Release is served when no upstream answers; 0 is not at all.
	//
	// An unlisted file is served as long after upstream last confirmed it.
	ServeExpired time.Duration `yaml:"serve_expired" default:"7d"`
	// The same for suites that carry security updates.
	ServeExpiredSecurity time.Duration `yaml:"serve_expired_security" default:"24h"`
	// How long before Valid-Until passes the alarm is raised; 0 raises it when it has passed.
	WarnBefore time.Duration `yaml:"warn_before" default:"24h"`
}

// Retain keeps superseded generations of a suite readable while they are younger than For, and
// never more than Generations of them.
type Retain struct {
	// Age up to which a superseded generation stays readable.
	For time.Duration `yaml:"for" default:"24h"`
	// How many superseded generations of a suite stay readable.
	Generations int `yaml:"generations" default:"8" check:"1-1000"`
}
