package aptmeta

import (
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/node/format/pgp"
)

// VerifyInRelease checks an InRelease against the keyring and returns the text that is signed,
// and nothing else of the file: its lines each end in "\n", without trailing white space and
// without escapes.
//
// Which signatures count follows the gpgv method of apt (GPGVMethod::URIAcquire, methods/gpgv.cc:
// the file is refused if GoodSigners is empty or BadSigners is not); pgp.Keyring.Verify has the
// rules. The sqv method (apt 3.0 and later where sqv is installed) ignores bad signatures; the rule
// of gpgv holds here, because Debian 12, Ubuntu 22.04 and Ubuntu 24.04 have only gpgv.
//
// It differs from apt in two points. gpgv does not look at a signature made in the future, and
// sqv refuses it; here it is passed over if it is more than a day ahead of now. And apt with
// gpgv ignores the good signature of a key if a SHA-1 signature by the same key follows it, or
// an expired one comes before it; sqv does not. Here the good one counts, because only the
// holder of the key can make both of the same text, so no mirror can add the other one.
//
// A file that is not exactly one clearsigned message fails with pgp.ErrNotSigned, one that is
// refused for its signatures with a *pgp.SignatureError.
func VerifyInRelease(k *pgp.Keyring, data []byte, now time.Time) (text []byte, s pgp.Signer, err error) {
	c, err := splitClearsigned(data)
	if err != nil {
		return nil, pgp.Signer{}, fmt.Errorf("InRelease: %w", err)
	}
	s, err = k.Verify(c.signed(), c.signature, now)
	if err != nil {
		return nil, pgp.Signer{}, fmt.Errorf("InRelease: %w", err)
	}
	return c.text, s, nil
}

// VerifyDetached checks a Release against its Release.gpg, which consists of armoured blocks
// only, as apt demands. The rules are those of VerifyInRelease.
func VerifyDetached(k *pgp.Keyring, text, sig []byte, now time.Time) (pgp.Signer, error) {
	if len(text) > MaxRelease || len(sig) > MaxRelease {
		return pgp.Signer{}, fmt.Errorf("detached Release.gpg: %w: larger than %d bytes", pgp.ErrNotSigned, MaxRelease)
	}
	blocks, err := signatureBlocks(sig)
	if err != nil {
		return pgp.Signer{}, fmt.Errorf("detached Release.gpg: %w", err)
	}
	s, err := k.Verify(text, blocks, now)
	if err != nil {
		return pgp.Signer{}, fmt.Errorf("detached Release.gpg: %w", err)
	}
	return s, nil
}
