// Package config is the configuration of a node as a whole: it reads the file, fills in the
// defaults, checks that the values make sense alone and together, prints and documents the keys,
// and says what of a new configuration a running node can take up. Without a file it makes one
// from what this machine's own apt is configured with.
//
// It starts nothing and changes nothing. The values go to the rooms as they are; what a room does
// with them is the room's business.
package config
