package peers

import (
	"bytes"
	"context"
	"io"
	"net"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
	"github.com/aptmesh/aptmesh/ring"
)

// An PeerRequest arrives as it was sent.
func TestRequestTravels(t *testing.T) {
	digest := proto.DigestOf([]byte("x"))
	for name, peerReq := range map[string]proto.PeerRequest{
		"listed":     {Object: proto.ObjectRequest{Ref: proto.Ref{Digest: digest, Size: 10}, Where: where, Class: proto.ClassPackage}, Offset: 10, Fill: true},
		"by hash":    {Object: proto.ObjectRequest{Ref: proto.Ref{Digest: digest, Size: proto.UnknownSize}, Where: where}, Offset: 1 << 40},
		"by SHA-512": {Object: proto.ObjectRequest{Ref: proto.Ref{Size: 3}, SHA512: proto.SHA512{63: 1}, Where: where, Class: proto.ClassPrefetch}, Offset: 3},
		"two contents": {
			Object: proto.ObjectRequest{Ref: proto.Ref{Digest: digest, Size: 10}, Others: []proto.Ref{{Digest: proto.Digest{1}, Size: 12}, {Digest: proto.Digest{2}, Size: proto.UnknownSize}}, Where: where},
			Offset: 11, // beyond the end of one of them
		},
		"hearsay":   {Object: proto.ObjectRequest{Ref: proto.Ref{Digest: digest, Size: 10}, Where: where, Hearsay: true}, Fill: true},
		"a client":  {Object: proto.ObjectRequest{Ref: proto.Ref{Digest: digest, Size: 10}, Where: where, Client: "2001:db8::/64"}, Fill: true},
		"elsewhere": {Object: proto.ObjectRequest{Ref: proto.Ref{Digest: digest, Size: 10}, Where: where, Base: "https://mirror.example.org/ubuntu"}, Fill: true},
		"unlisted":  {Object: proto.ObjectRequest{Ref: proto.Ref{Size: proto.UnknownSize}, Where: proto.At(where.First, proto.Location{Archive: "a", Path: "ä b%"})}, Have: digest, Offset: 7, Fill: true},
	} {
		got, err := readRequest(requestOf(peerReq, nil))
		if err != nil || !reflect.DeepEqual(got, peerReq) {
			t.Errorf("%s: %+v became %+v, %v", name, peerReq, got, err)
		}
	}
	if requestOf(proto.PeerRequest{Object: proto.ObjectRequest{PeersOnly: true}, Fill: true}, nil).GetFill() {
		t.Error("a fetch that must not go upstream lets the peer go there")
	}
	var many []proto.Location
	for i := range 1000 {
		many = append(many, proto.Location{Archive: "a", Path: strconv.Itoa(i)})
	}
	if n := len(requestOf(proto.PeerRequest{Object: proto.ObjectRequest{Where: proto.WhereOf(many)}}, nil).GetWhere()); n != maxLocations {
		t.Errorf("%d locations are sent", n)
	}
}

// The proxies of a request travel with it, and hostile ones do not arrive.
func TestViaTravels(t *testing.T) {
	sent := []string{"aptmesh-1", "proxy.example.org:3128"}
	if got, err := viaIn(requestOf(askFor([]byte("x"), 0), sent).GetVia()); err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("%q became %q, %v", sent, got, err)
	}
	for name, via := range map[string][]string{
		"too many":    make([]string, proto.MaxVia+1),
		"an empty":    {"a", ""},
		"a long":      {strings.Repeat("x", maxProxy+1)},
		"two in one":  {"a, b"},
		"with a line": {"a\r\nHost: b"},
	} {
		if got, err := viaIn(via); err == nil {
			t.Errorf("%s: accepted: %q", name, got)
		}
	}
}

// goodRequest is one that is answered.
func goodRequest() *peerpb.FetchRequest {
	return &peerpb.FetchRequest{
		Ref:   &peerpb.Ref{Digest: make([]byte, 32), Size: 100},
		Where: []*peerpb.Location{{Archive: "ubuntu", Path: "dists/noble/InRelease"}},
	}
}

// manyRefs are n different contents.
func manyRefs(n int) []*peerpb.Ref {
	refs := make([]*peerpb.Ref, n)
	for i := range refs {
		refs[i] = &peerpb.Ref{Digest: append(make([]byte, 31), byte(i+2)), Size: 1}
	}
	return refs
}

func TestHostileRequests(t *testing.T) {
	if _, err := readRequest(goodRequest()); err != nil {
		t.Fatal(err)
	}
	path := func(p string) func(*peerpb.FetchRequest) {
		return func(r *peerpb.FetchRequest) { r.Where[0].Path = p }
	}
	archive := func(a string) func(*peerpb.FetchRequest) {
		return func(r *peerpb.FetchRequest) { r.Where[0].Archive = a }
	}
	for name, spoil := range map[string]func(*peerpb.FetchRequest){
		"no location":            func(r *peerpb.FetchRequest) { r.Where = nil },
		"an empty location":      func(r *peerpb.FetchRequest) { r.Where[0] = nil },
		"too many locations":     func(r *peerpb.FetchRequest) { r.Where = make([]*peerpb.Location, maxLocations+1) },
		"a short digest":         func(r *peerpb.FetchRequest) { r.Ref.Digest = make([]byte, 31) },
		"a long digest":          func(r *peerpb.FetchRequest) { r.Ref.Digest = make([]byte, 33) },
		"a short SHA-512":        func(r *peerpb.FetchRequest) { r.Sha512 = make([]byte, 32) },
		"a short have":           func(r *peerpb.FetchRequest) { r.Have = make([]byte, 1) },
		"a negative size":        func(r *peerpb.FetchRequest) { r.Ref.Size = -2 },
		"a negative offset":      func(r *peerpb.FetchRequest) { r.Offset = -1 },
		"an offset behind it":    func(r *peerpb.FetchRequest) { r.Ref.Digest[0] = 1; r.Offset = 101 },
		"too many contents":      func(r *peerpb.FetchRequest) { r.Ref.Digest[0] = 1; r.Others = manyRefs(maxOthers + 1) },
		"a content of no digest": func(r *peerpb.FetchRequest) { r.Ref.Digest[0] = 1; r.Others = []*peerpb.Ref{{Size: 3}} },
		"no content at all":      func(r *peerpb.FetchRequest) { r.Ref = nil; r.Others = []*peerpb.Ref{nil} },
		"a content of nothing":   func(r *peerpb.FetchRequest) { r.Others = manyRefs(1) },
		"a base of a file":       func(r *peerpb.FetchRequest) { r.Base = "file:///etc" },
		"a base with a user":     func(r *peerpb.FetchRequest) { r.Base = "http://a:b@example.org/" },
		"a base without a host":  func(r *peerpb.FetchRequest) { r.Base = "http:///x" },
		"a long client":          func(r *peerpb.FetchRequest) { r.Client = strings.Repeat("x", maxClient+1) },
		"a client in two":        func(r *peerpb.FetchRequest) { r.Client = "192.0.2.1 192.0.2.2" },
		"a long base":            func(r *peerpb.FetchRequest) { r.Base = "http://example.org/" + strings.Repeat("x", maxBase) },
		"no archive":             archive(""),
		"a long archive":         archive(strings.Repeat("x", maxArchive+1)),
		"an archive of bells":    archive("\a"),
		"no path":                path(""),
		"a long path":            path(strings.Repeat("x", maxPath+1)),
		"a path out":             path("../etc/passwd"),
		"a path out later":       path("dists/../../etc/passwd"),
		"a path that stays":      path("dists/./noble"),
		"an absolute path":       path("/etc/passwd"),
		"an empty segment":       path("dists//noble"),
		"a directory":            path("dists/noble/"),
		"a path with a newline":  path("dists/no\nble"),
		"a path with a zero":     path("dists/no\x00ble"),
		"a path with a C1":       path("dists/no\u0085ble"),
	} {
		r := goodRequest()
		spoil(r)
		if peerReq, err := readRequest(r); err == nil {
			t.Errorf("%s: answered: %+v", name, peerReq)
		}
	}
}

// Whatever bytes are a request, what comes of it is within bounds.
func FuzzFetchRequest(f *testing.F) {
	seed := func(r *peerpb.FetchRequest) {
		b, err := pb.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(goodRequest())
	seed(requestOf(askFor([]byte("hello"), 3), []string{"proxy"}))
	seed(&peerpb.FetchRequest{Offset: -1, Class: 1 << 31, Where: []*peerpb.Location{{Archive: "a", Path: "../b"}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r peerpb.FetchRequest
		if pb.Unmarshal(b, &r) != nil {
			return
		}
		peerReq, err := readRequest(&r)
		if err != nil {
			return
		}
		object := peerReq.Object
		if peerReq.Offset < 0 || object.Ref.Size < proto.UnknownSize || object.Class > proto.ClassPrefetch || object.Where.IsZero() || object.Where.Len() > maxLocations {
			t.Fatalf("%+v", peerReq)
		}
		for loc := range object.Where.All() {
			if loc.Archive == "" || loc.Path == "" || strings.HasPrefix(loc.Path, "/") || strings.Contains("/"+loc.Path+"/", "/../") ||
				strings.ContainsFunc(loc.String(), unicode.IsControl) {
				t.Fatalf("%q", loc)
			}
		}
		again, err := readRequest(requestOf(peerReq, nil))
		if err != nil || !reflect.DeepEqual(again, peerReq) {
			t.Fatalf("%+v became %+v, %v", peerReq, again, err)
		}
	})
}

// Whatever bytes a frame is made of, however they were cut on the way, reading it
// neither panics nor keeps more than it was given.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{kindData, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 9, 'h', 'e', 'l', 'l', 'o'}, uint8(3))
	f.Add([]byte{kindHead, 8, 1}, uint8(1))
	f.Add([]byte{kindTail, 8, 1}, uint8(2))
	f.Add([]byte{kindData, 1}, uint8(0))
	f.Add([]byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		at := min(int(cut), len(b))
		wire := mem.BufferSlice{mem.SliceBuffer(b[:at]), mem.SliceBuffer(b[at:])}
		var got frame
		if err := got.decode(wire); err != nil {
			if got.data.Remaining() != 0 {
				t.Fatalf("%d bytes of a frame that cannot be read", got.data.Remaining())
			}
			return
		}
		switch got.kind {
		case kindData:
			rest, err := io.ReadAll(&got.data)
			if err != nil || !bytes.Equal(rest, b[dataHeader:]) || got.available < 0 {
				t.Fatalf("%q, %v, %d available", rest, err, got.available)
			}
		case kindHead:
			got.head()
		case kindTail:
			got.tail()
		default:
			got.request()
		}
	})
}

// A node that is sent what is no request says so, and lives.
func TestHostileFrames(t *testing.T) {
	a, b := pair(t, Config{}, said)
	good, err := pb.Marshal(goodRequest())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		frame []byte
		code  codes.Code
	}{
		"an empty frame":        {nil, codes.Internal},
		"data":                  {make([]byte, 100), codes.InvalidArgument},
		"a tail":                {append([]byte{kindTail}, good...), codes.InvalidArgument},
		"noise":                 {append([]byte{kindRequest}, bytes.Repeat([]byte{0xff}, 100)...), codes.InvalidArgument},
		"an impossible request": {[]byte{kindRequest}, codes.InvalidArgument},
		"a long request":        {append([]byte{kindRequest}, make([]byte, maxMessage+1)...), codes.Internal},
		"a huge request":        {append([]byte{kindRequest}, make([]byte, 5<<20)...), codes.ResourceExhausted},
		"a good one":            {append([]byte{kindRequest}, good...), codes.OK},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := a.peer("b").data.NewStream(ctx, &fetchStream, fetchMethod, grpc.CallContentSubtype(codecName))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(&frame{wire: mem.BufferSlice{mem.SliceBuffer(tt.frame)}}); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		stream.CloseSend()
		for err = nil; err == nil; {
			err = stream.RecvMsg(new(frame))
		}
		if err == io.EOF {
			err = nil
		}
		if status.Code(err) != tt.code {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	if n := len(b.uploads); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

// A peer that does not keep to the protocol has failed; nothing it says is taken
// for the object.
func TestHostileServer(t *testing.T) {
	head := func(h *peerpb.FetchHead) *frame { f, _ := messageFrame(kindHead, h); return f }
	ready := func() *frame { return head(&peerpb.FetchHead{Ready: true, Ref: &peerpb.Ref{Size: 4}}) }
	tail := func() *frame { f, _ := messageFrame(kindTail, &peerpb.FetchTail{}); return f }
	data := func(s string) *frame {
		b := make([]byte, dataHeader, dataHeader+len(s))
		putDataHeader(b, 1<<40, 1)
		return raw(append(b, s...))
	}
	for name, frames := range map[string][]*frame{
		"nothing":                      {},
		"an end without a beginning":   {tail()},
		"data without a beginning":     {head(&peerpb.FetchHead{}), data("data")},
		"accepted, and no more":        {head(&peerpb.FetchHead{}), data("")},
		"a head that cannot be read":   {raw([]byte{kindHead, 0xff})},
		"a head of another offset":     {head(&peerpb.FetchHead{Ready: true, Offset: 1, Ref: &peerpb.Ref{Size: 4}})},
		"a head with half a digest":    {head(&peerpb.FetchHead{Ready: true, Ref: &peerpb.Ref{Digest: make([]byte, 16)}})},
		"a negative size":              {head(&peerpb.FetchHead{Ready: true, Ref: &peerpb.Ref{Size: -5}})},
		"no tail":                      {ready(), data("data")},
		"too little":                   {ready(), data("dat"), tail()},
		"too much":                     {ready(), data("data!"), tail()},
		"too much in the end":          {ready(), data("data"), data("!"), tail()},
		"a second head":                {ready(), data("da"), ready(), data("ta"), tail()},
		"a request":                    {ready(), raw([]byte{kindRequest})},
		"a frame of the future":        {ready(), raw([]byte{77, 1, 2, 3})},
		"an empty frame":               {ready(), raw(nil)},
		"a short data frame":           {ready(), raw([]byte{kindData, 1, 2})},
		"a tail that cannot be read":   {ready(), data("data"), raw([]byte{kindTail, 0xff})},
		"more than a frame may be":     {ready(), raw(make([]byte, maxFrame+1))},
		"a head beyond what it may be": {raw(append([]byte{kindHead}, make([]byte, maxMessage+1)...))},
	} {
		a := newMesh(t, "a", Config{})
		a.SetView(viewAt(t, "b", fakeServer(t, func(stream grpc.ServerStream) error {
			if md, _ := metadata.FromIncomingContext(stream.Context()); md.Get(nodeHeader)[0] != "a" {
				return status.Error(codes.Internal, "nobody introduced himself")
			}
			for _, f := range frames {
				if err := stream.SendMsg(f); err != nil {
					return err
				}
			}
			return nil
		})))
		tr, err := a.Fetch(t.Context(), "b", wantAll())
		got := []byte(nil)
		if err == nil {
			got, err = body(tr)
		}
		if !isPeerFailed(err) || !strings.HasPrefix("data", string(got)) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if n := a.peer("b").runningNow(); n != 0 {
			t.Errorf("%s: %d transfers still count as running", name, n)
		}
	}
}

func raw(b []byte) *frame { return &frame{wire: mem.BufferSlice{mem.SliceBuffer(b)}} }

// fakeServer answers Fetch in its own way, and returns its address.
func fakeServer(t *testing.T, answer func(grpc.ServerStream) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{ServiceName: fetchService, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Fetch", ServerStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error { return answer(stream) },
	}}}, nil)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

// viewAt is the view of a cluster of one node at that address.
func viewAt(t *testing.T, name, addr string) *ring.View {
	t.Helper()
	r, err := ring.New([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return &ring.View{Nodes: []ring.Node{{Name: name, PeerAddr: addr, State: ring.Active, RingVersion: ring.Version}}, Ring: r}
}
