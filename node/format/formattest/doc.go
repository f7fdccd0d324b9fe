// Package formattest is what every repository format must pass. A format's own test gives Run golden
// archives, each a map from path to bytes as a publisher lays it out, and Run holds the format against
// them: what its forms are, what Open accepts and refuses, whether each package's lister is found and
// lists it, and that hostile bytes cost no more than they may.
//
// It knows no format. What differs from format to format comes with the archives.
package formattest
