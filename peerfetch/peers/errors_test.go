package peers

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// Every error of a handler arrives as what it is, through a real connection.
func TestErrorsTravel(t *testing.T) {
	var told error
	a, _ := pair(t, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) { return nil, told })
	fetch := func(err error) error {
		told = err
		_, got := a.Fetch(t.Context(), "b", wantAll())
		return got
	}

	err := fetch(fmt.Errorf("ubuntu/x: %w", proto.ErrNotFound))
	if !errors.Is(err, proto.ErrNotFound) || !strings.Contains(err.Error(), "ubuntu/x") || !strings.Contains(err.Error(), "node b") {
		t.Error(err)
	}
	err = fetch(fmt.Errorf("%w: x has 3 bytes, listed with 4", proto.ErrCorrupt))
	if !errors.Is(err, proto.ErrCorrupt) || !strings.Contains(err.Error(), "x has 3 bytes, listed with 4") {
		t.Error(err)
	}
	for _, kind := range proto.RejectKinds() {
		sentence := &proto.Rejected{Kind: kind, Reason: "the sentence", Err: errors.New("the cause")}
		err = fetch(fmt.Errorf("x: %w", sentence))
		if v := new(proto.Rejected); !errors.As(err, &v) || *v != (proto.Rejected{Kind: kind, Reason: "the sentence"}) {
			t.Errorf("%s became %#v", kind, err)
		}
		if aboutBytes := kind != proto.RejectLoop && kind != proto.RejectExpired; errors.Is(err, proto.ErrCorrupt) != aboutBytes {
			t.Errorf("%s is an ErrCorrupt: %v", kind, !aboutBytes)
		}
	}
	// A verdict for clients may tell nodes how long to wait, whichever stands around the other.
	err = fetch(&proto.Unavailable{Reason: "3 tries", RetryAfter: 7 * time.Second, Answered: true, Err: &proto.Rejected{Kind: proto.RejectCorrupt, Reason: "the sentence", Err: proto.ErrCorrupt}})
	var verdict *proto.Rejected
	var wait *proto.Unavailable
	if !errors.As(err, &verdict) || verdict.Reason != "the sentence" || !errors.As(err, &wait) || wait.RetryAfter != 7*time.Second || !wait.Answered {
		t.Errorf("%#v", err)
	}
	err = fetch(&proto.Unavailable{Reason: "another mirror next time", Answered: true, Wrong: true, Err: proto.ErrCorrupt})
	if !errors.As(err, &wait) || !wait.Wrong || !wait.Answered {
		t.Errorf("%#v", err)
	}
	// Trouble that may pass is never turned into something final on its way.
	for _, final := range []error{proto.ErrNotFound, proto.ErrCorrupt} {
		err = fetch(&proto.Unavailable{Reason: "3 tries failed", Err: final})
		if !errors.As(err, new(*proto.Unavailable)) || errors.Is(err, final) {
			t.Errorf("%#v", err)
		}
	}
	for _, status := range []int{302, 451, 511} {
		err = fetch(&proto.Refused{Status: status, Reason: "the lawyers say no"})
		if refused := new(proto.Refused); !errors.As(err, &refused) || refused.Status != status || refused.Reason != "node b: the lawyers say no" {
			t.Error(status, err)
		}
	}
	for _, answered := range []bool{false, true} {
		err = fetch(fmt.Errorf("x: %w", &proto.Unavailable{Reason: "timeout", RetryAfter: 7 * time.Second, Answered: answered, Err: errors.New("the cause")}))
		if busy := new(proto.Unavailable); !errors.As(err, &busy) || busy.RetryAfter != 7*time.Second || busy.Answered != answered || busy.Reason != "node b: x: timeout: the cause" {
			t.Errorf("%#v", err)
		}
	}
	for _, busy := range []bool{false, true} {
		err = fetch(&proto.NotStored{Peer: "somebody", Try: []string{"c", "d"}, Busy: busy})
		if stored := new(proto.NotStored); !errors.As(err, &stored) || !reflect.DeepEqual(*stored, proto.NotStored{Peer: "b", Try: []string{"c", "d"}, Busy: busy}) {
			t.Errorf("%#v", err)
		}
	}
	for _, own := range []error{
		errors.New("read the store: input/output error"),
		&proto.PeerFailed{Peer: "c", Err: &proto.Unavailable{Reason: "not what upstream said"}},
		context.Canceled,
	} {
		err = fetch(own)
		if failed := new(proto.PeerFailed); !errors.As(err, &failed) || failed.Peer != "b" || errors.As(err, new(*proto.Unavailable)) {
			t.Errorf("%v became %#v", own, err)
		}
		if !strings.Contains(err.Error(), own.Error()) {
			t.Errorf("%v became %v", own, err)
		}
	}
}

// What a peer says of a failure is not believed further than it makes sense.
func TestFailureOf(t *testing.T) {
	long := strings.Repeat("ä", 4000)
	for name, tt := range map[string]struct {
		f     *peerpb.Failure
		check func(error) bool
	}{
		"a refusal that is none": {&peerpb.Failure{Kind: peerpb.Failure_REFUSED, Status: 200}, isPeerFailed},
		"an unknown kind":        {&peerpb.Failure{Kind: 99, Reason: "from the future"}, isPeerFailed},
		"leaving":                {&peerpb.Failure{Kind: peerpb.Failure_DRAINING, Reason: "this node is leaving"}, isPeerFailed},
		"a wait without end": {&peerpb.Failure{Kind: peerpb.Failure_UNAVAILABLE, RetryAfterMs: 1 << 62}, func(err error) bool {
			return err.(*proto.Unavailable).RetryAfter == maxRetryAfter
		}},
		"a wait into the past": {&peerpb.Failure{Kind: peerpb.Failure_UNAVAILABLE, RetryAfterMs: -1 << 62}, func(err error) bool {
			return err.(*proto.Unavailable).RetryAfter == 0
		}},
		"a novel": {&peerpb.Failure{Kind: peerpb.Failure_CORRUPT, Reason: long}, func(err error) bool {
			return len(err.Error()) < 2*maxReason && errors.Is(err, proto.ErrCorrupt)
		}},
		"escape sequences": {&peerpb.Failure{Kind: peerpb.Failure_NOT_FOUND, Reason: "\x1b[2J\r\nHTTP/1.1 200 OK"}, func(err error) bool {
			return !strings.ContainsAny(err.Error(), "\x1b\r\n") && errors.Is(err, proto.ErrNotFound)
		}},
		"names that are none": {&peerpb.Failure{Kind: peerpb.Failure_NOT_STORED, Try: append([]string{"", "a b", "c", "\n"}, make([]string, 100)...)}, func(err error) bool {
			return reflect.DeepEqual(err.(*proto.NotStored).Try, []string{"c"})
		}},
	} {
		if err := failureOf("b", tt.f); !tt.check(err) {
			t.Errorf("%s: %#v", name, err)
		}
	}
	if err := errorOf("b", status.Error(codes.Unavailable, "connection\nrefused")); !isPeerFailed(err) || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}

func isPeerFailed(err error) bool { return errors.As(err, new(*proto.PeerFailed)) }
