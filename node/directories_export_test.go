package node

// NotOurs is what New says of a directory that it cannot open.
var NotOurs = notOurs
