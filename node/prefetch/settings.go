package prefetch

import (
	_ "embed"
	"time"
)

//go:embed settings.go
var SettingsSource string // node/config prints the comments of the keys

// Settings is the section `prefetch` of the configuration.
type Settings struct {
	// false fetches nothing ahead.
	Enabled bool `yaml:"enabled" default:"true"`
	// Cap for one publication of one suite.
	MaxBytes int64 `yaml:"max_bytes" default:"2GiB" check:"positive"`
	// How long a package counts as in use after a host took it.
	UsedWithin time.Duration `yaml:"used_within" default:"14d" check:"positive"`
}
