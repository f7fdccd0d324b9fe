package proto

import "errors"

// ErrForged is the cause of a Rejected where nobody can have signed the bytes so: a page in place
// of a root, or a root that was tampered with. A root signed by a key that is not known here is not
// forged: it may be good all the same.
var ErrForged = errors.New("nobody can have signed these bytes")
