package peers

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	pb "google.golang.org/protobuf/proto"

	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// The kinds of frame on a Fetch stream. The first byte of a frame is its kind.
const (
	kindRequest byte = 1 + iota // a peerpb.FetchRequest
	kindHead                    // a peerpb.FetchHead
	kindData                    // available, sent, then bytes
	kindTail                    // a peerpb.FetchTail
	kindWaiting                 // what the sender waits for, and for how long it has
)

const (
	// codecName is the content-subtype by which both sides know that a stream
	// carries frames.
	codecName = "aptmesh-frames"
	// dataHeader is what stands before the bytes of a data frame: the kind, how
	// many bytes of the object the sender has (8 bytes, big-endian), and when it
	// sent the frame, in milliseconds since it accepted the request (4 bytes).
	dataHeader = 1 + 8 + 4
	// waitingFrame is the length of a keepalive: the kind, what is waited for, and
	// for how many milliseconds (4 bytes).
	waitingFrame = 1 + 1 + 4
	// maxMessage bounds the frames that are not data: 64 locations of 4 KiB.
	maxMessage = 300 << 10
	// maxFrame bounds every frame that is taken.
	maxFrame = 1 << 20
)

// chunkSize is how many bytes a data frame carries at most. gRPC sends messages
// in pieces of 16 KiB, 5 bytes of each message being its own: with this size all
// pieces are full, and fit the buffers of the receiver. CPU seconds per GB of both
// ends together, and MB/s, by BenchmarkFetch/tcp/chunk: 16 KiB 0.67 1300, 32 KiB
// 0.67 2170, 64 KiB 0.57 2500, 128 KiB 0.53 2130, 256 KiB 0.66 1530, 512 KiB 0.64
// 1460; 64 KiB without the deduction 0.58 1370.
const chunkSize = 4*16<<10 - 5 - dataHeader

// frame is one message of a Fetch stream. To send it, wire is set; what was
// received is in the other fields.
type frame struct {
	wire mem.BufferSlice // becomes gRPC's when it is sent

	kind      byte
	available int64      // of kindData
	sent      uint32     // of kindData
	waits     waiting    // of kindWaiting
	data      mem.Reader // of kindData; holds buffers until it is read or closed
	message   []byte     // of all other kinds
}

// codec passes frames to gRPC and back without copying their bytes.
type codec struct{}

func init() { encoding.RegisterCodecV2(codec{}) }

func (codec) Name() string { return codecName }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("%T is not a frame", v)
	}
	return f.wire, nil
}

func (codec) Unmarshal(wire mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("%T is not a frame", v)
	}
	return f.decode(wire)
}

// decode reads a frame. Of a data frame it keeps references to the buffers.
func (f *frame) decode(wire mem.BufferSlice) error {
	f.data.Reset(wire)
	kind, err := f.data.ReadByte()
	if err != nil {
		return fmt.Errorf("an empty frame")
	}
	f.kind, f.available, f.sent, f.message, f.waits = kind, 0, 0, nil, waiting{}
	if kind != kindData {
		defer f.data.Close()
		if kind == kindWaiting {
			return f.decodeWaiting()
		}
		if f.data.Remaining() > maxMessage {
			return fmt.Errorf("a frame of kind %d and %d bytes", kind, wire.Len())
		}
		f.message = make([]byte, f.data.Remaining())
		f.data.Read(f.message)
		return nil
	}
	var header [dataHeader - 1]byte
	if n, _ := f.data.Read(header[:]); n < len(header) {
		f.data.Close()
		return fmt.Errorf("a data frame of %d bytes", wire.Len())
	}
	available := binary.BigEndian.Uint64(header[:8])
	f.available = int64(min(available, 1<<62))
	f.sent = binary.BigEndian.Uint32(header[8:])
	return nil
}

// waitsFor is what a node waits for while it has nothing to send.
type waitsFor byte

// The values travel: they are never changed.
const (
	waitsUnknown  waitsFor = iota
	waitsStore             // its own disk
	waitsUpstream          // upstream, or a place in the queue there
	waitsTurn              // its other uploads
)

func (w waitsFor) String() string {
	switch w {
	case waitsStore:
		return "its disk"
	case waitsUpstream:
		return "upstream"
	case waitsTurn:
		return "its other transfers"
	}
	return "it does not say what"
}

// waiting is what a keepalive says.
type waiting struct {
	what  waitsFor
	since time.Duration // for how long
}

// frame makes the keepalive that says w.
func (w waiting) frame() *frame {
	wire := make([]byte, waitingFrame)
	wire[0], wire[1] = kindWaiting, byte(w.what)
	binary.BigEndian.PutUint32(wire[2:], uint32(min(w.since.Milliseconds(), math.MaxUint32)))
	return &frame{wire: mem.BufferSlice{mem.SliceBuffer(wire)}}
}

// decodeWaiting reads what follows the kind of a keepalive. What a newer version may
// wait for counts as not said.
func (f *frame) decodeWaiting() error {
	var b [waitingFrame - 1]byte
	if n, _ := f.data.Read(b[:]); n < len(b) {
		return fmt.Errorf("a keepalive of %d bytes", 1+n)
	}
	if f.waits.what = waitsFor(b[0]); f.waits.what > waitsTurn {
		f.waits.what = waitsUnknown
	}
	f.waits.since = time.Duration(binary.BigEndian.Uint32(b[1:])) * time.Millisecond
	return nil
}

// messageFrame makes the frame that carries msg.
func messageFrame(kind byte, msg pb.Message) (*frame, error) {
	wire, err := pb.MarshalOptions{}.MarshalAppend([]byte{kind}, msg)
	if err != nil {
		return nil, err
	}
	return &frame{wire: mem.BufferSlice{mem.SliceBuffer(wire)}}, nil
}

// head, tail and request read the frames they are named after.
func (f *frame) head() (*peerpb.FetchHead, error) {
	return readMessage(f, &peerpb.FetchHead{})
}

func (f *frame) tail() (*peerpb.FetchTail, error) {
	return readMessage(f, &peerpb.FetchTail{})
}

func (f *frame) request() (*peerpb.FetchRequest, error) {
	if f.kind != kindRequest {
		return nil, fmt.Errorf("a frame of kind %d in place of a request", f.kind)
	}
	return readMessage(f, &peerpb.FetchRequest{})
}

func readMessage[M pb.Message](f *frame, into M) (M, error) {
	if err := pb.Unmarshal(f.message, into); err != nil {
		return into, fmt.Errorf("a frame of kind %d cannot be read: %w", f.kind, err)
	}
	return into, nil
}

// putDataHeader fills in the first dataHeader bytes of a data frame.
func putDataHeader(b []byte, available int64, sent uint32) {
	b[0] = kindData
	binary.BigEndian.PutUint64(b[1:], uint64(available))
	binary.BigEndian.PutUint32(b[9:], sent)
}

// chunkPool is a mem.BufferPool of buffers for outgoing data frames, all of one
// size. gRPC's own pools would clear each of them before it is used again.
type chunkPool struct {
	size int
	pool sync.Pool
}

// newChunkPool makes buffers for data frames of up to that many bytes.
func newChunkPool(bytes int) *chunkPool { return &chunkPool{size: dataHeader + bytes} }

// Get returns a buffer; all have the full length, whatever is asked for.
func (p *chunkPool) Get(int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		*b = (*b)[:p.size]
		return b
	}
	b := make([]byte, p.size)
	return &b
}

// Put takes a buffer back.
func (p *chunkPool) Put(b *[]byte) { p.pool.Put(b) }
