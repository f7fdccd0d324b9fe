package front

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// served is what http.ServeContent makes of a request.
func served(method string, header http.Header, content []byte, modified time.Time) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	w.Header().Set("Etag", `"`+proto.DigestOf(content).String()+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	r := httptest.NewRequest(method, "/x", nil)
	r.Header = header.Clone()
	if since, err := http.ParseTime(header.Get("If-Modified-Since")); err == nil && !modified.IsZero() && since.Unix() > modified.Unix() {
		r.Header.Del("If-Modified-Since") // a later date is not ours: see unchanged
	}
	http.ServeContent(w, r, "", modified, bytes.NewReader(content))
	return w
}

// excepted are the requests where decide differs from ServeContent on purpose.
func excepted(method, ranges string, size int) bool {
	return ranges != "" && (method == http.MethodHead || // RFC 9110, 14.2: Range is for GET
		!strings.HasPrefix(ranges, "bytes=") || // 14.2: ignore unknown units
		strings.Contains(ranges, "+") || // 14.1.1: a position is digits
		slices.ContainsFunc(strings.Split(ranges[6:], ","), func(spec string) bool {
			suffix, ok := strings.CutPrefix(strings.TrimSpace(spec), "-")
			return ok && (size == 0 || strings.Trim(suffix, "0 \t\r\n") == "") // 14.1.2: unsatisfiable
		}))
}

func compareWithServeContent(t *testing.T, method string, header http.Header, content []byte, modified time.Time) {
	t.Helper()
	want := served(method, header, content, modified)
	c := conditionsOf(&http.Request{Method: method, Header: header})
	s := subject{
		info: new(proto.PathInfo),
		loc:  proto.Location{Archive: "ubuntu", Path: "x"}, entry: new(proto.Resolution), now: testTime, proven: true, modified: modified,
		ref: proto.Ref{Digest: proto.DigestOf(content), Size: int64(len(content))}, tier: proto.TierMemory,
	}
	var a answer
	answerObject(&a, &c, &s)
	if a.status != want.Code {
		t.Errorf("%s %v of %d bytes: %d, ServeContent says %d", method, header, len(content), a.status, want.Code)
		return
	}
	if a.status == http.StatusPreconditionFailed {
		return // ServeContent leaves the object's fields in, and no body
	}
	h := make(http.Header)
	a.fill(h, "n")
	if len(a.parts) > 0 {
		compareParts(t, &a, header, content, want)
		return
	}
	for _, name := range []string{"Content-Range", "Etag", "Content-Length", "Accept-Ranges", "Last-Modified"} {
		got := first(h[name])
		switch {
		case a.status == 304 && name == "Last-Modified": // we repeat it, ServeContent does not
		case a.text != "" && name == "Content-Length": // other sentences, and one where it has none
		case a.status == 416 && name == "Content-Range": // ServeContent leaves it out where the field is malformed
		case a.status == 416 && (name == "Etag" || name == "Last-Modified"): // ours are kept (TestRangeBehindTheEnd)
		case got != want.Header().Get(name):
			t.Errorf("%s %v of %d bytes: %s %q, ServeContent says %q", method, header, len(content), name, got, want.Header().Get(name))
		}
	}
	if a.text == "" && a.status != 304 && method == http.MethodGet && !bytes.Equal(content[a.from:a.from+a.length], want.Body.Bytes()) {
		t.Errorf("%v of %d bytes: other bytes than ServeContent's", header, len(content))
	}
}

// compareParts holds several parts against those of http.ServeContent.
func compareParts(t *testing.T, a *answer, header http.Header, content []byte, want *httptest.ResponseRecorder) {
	t.Helper()
	h := make(http.Header)
	a.fill(h, "n")
	var body bytes.Buffer
	for i := range a.pieces() {
		head, p := a.piece(i)
		body.Write(head)
		body.Write(content[p.from : p.from+p.length])
	}
	body.Write(a.end())
	if first(h["Content-Length"]) != strconv.Itoa(body.Len()) || h["Content-Range"] != nil {
		t.Errorf("%v: a body of %d bytes with %v", header, body.Len(), h)
	}
	got, other := partsOf(t, first(h["Content-Type"]), &body), partsOf(t, want.Header().Get("Content-Type"), want.Body)
	if !slices.Equal(got, other) {
		t.Errorf("%v of %d bytes: %q, ServeContent says %q", header, len(content), got, other)
	}
}

// partsOf reads a multipart/byteranges body: each part is its Content-Range and its bytes.
func partsOf(t *testing.T, contentType string, body io.Reader) (parts []string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/byteranges" {
		t.Fatalf("Content-Type %q: %v", contentType, err)
	}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextPart()
		if err == io.EOF {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p.Header.Get("Content-Range")+" "+string(b))
	}
}

func TestDecideAsServeContent(t *testing.T) {
	content := []byte("0123456789")
	tag := `"` + proto.DigestOf(content).String() + `"`
	at := func(d time.Duration) string { return testTime.Add(d).Format(http.TimeFormat) }
	dates := []string{"", at(0), at(-time.Second), at(time.Second), "nonsense", testTime.Format(time.RFC850), testTime.Format(time.ANSIC)}
	tags := []string{"", tag, "W/" + tag, `"other"`, `"other", ` + tag, `"other" , W/` + tag, "*", "nonsense", `"open`, `, ` + tag}
	ranges := []string{"", "bytes=0-", "bytes=3-", "bytes=3-5", "bytes=9-", "bytes=9-9", "bytes=9-100", "bytes=10-", "bytes=11-12", "bytes=-1", "bytes=-10",
		"bytes=-11", "bytes=-0", "bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=--1", "bytes=+1-2", "bytes= 1 - 2 ", "bytes=99999999999999999999-", "items=0-5",
		"bytes=0-0,-1", "bytes=10-,11-", "bytes=5-6,1-2", "bytes=1-2,2-3", "bytes=0-4,5-9", "bytes=0-5,5-9", "bytes=0-0,0-0,0-0", "bytes=0-9,0-0",
		"bytes=1-2,20-,3-4", "bytes= 1-2 , ,3-4,", "bytes=1-2,x", "bytes=0-9,0-9,x"}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, content := range [][]byte{content, {}} {
			for _, modified := range []time.Time{testTime, {}, time.Unix(0, 0)} {
				compare := func(fields ...string) {
					header := make(http.Header)
					for i := 0; i < len(fields); i += 2 {
						if fields[i+1] != "" {
							header.Set(fields[i], fields[i+1])
						}
					}
					if !excepted(method, header.Get("Range"), len(content)) {
						compareWithServeContent(t, method, header, content, modified)
					}
				}
				for _, d := range dates {
					for _, e := range tags {
						compare("If-Modified-Since", d, "If-None-Match", e)
						compare("If-Unmodified-Since", d, "If-Match", e)
						compare("If-Modified-Since", d, "If-None-Match", e, "Range", "bytes=3-5")
						compare("If-Unmodified-Since", d, "If-None-Match", e)
					}
				}
				for _, r := range ranges {
					for _, v := range append(dates, tags...) {
						compare("Range", r, "If-Range", v)
					}
				}
			}
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add("GET", "bytes=3-5", `"x"`, "", "", 10)
	f.Add("GET", "bytes=1-2,4-", "", `W/"x", "y"`, testTime.Format(http.TimeFormat), 5)
	f.Fuzz(func(t *testing.T, method, ranges, ifRange, ifNoneMatch, ifModifiedSince string, size int) {
		if size < 0 || size > 1000 || method != "GET" && method != "HEAD" || excepted(method, ranges, size) {
			t.Skip()
		}
		header := make(http.Header)
		for name, value := range map[string]string{"Range": ranges, "If-Range": ifRange, "If-None-Match": ifNoneMatch, "If-Modified-Since": ifModifiedSince} {
			if value != "" {
				header.Set(name, value)
			}
		}
		compareWithServeContent(t, method, header, make([]byte, size), testTime)
	})
}

// TestDecideOnItsOwn holds what differs from ServeContent.
func TestDecideOnItsOwn(t *testing.T) {
	full := object{digest: proto.DigestOf([]byte("x")), modified: testTime, size: 10, ranged: true}
	stream := object{size: 10}
	unknown := object{size: proto.UnknownSize}
	same := testTime.Format(http.TimeFormat)
	for _, tt := range []struct {
		name string
		c    conditions
		o    object
		want verdict
	}{
		{"the same date", conditions{ifModifiedSince: same}, full, verdict{status: 304}},
		{"a later date", conditions{ifModifiedSince: testTime.Add(time.Hour).Format(http.TimeFormat)}, full, verdict{status: 200, part: part{0, 10}}},
		{"ranges", conditions{ranges: "bytes=0-0,2-3"}, full, verdict{status: 206, parts: []part{{0, 1}, {2, 2}}}},
		{"ranges in the order asked, not merged", conditions{ranges: "bytes=4-5,0-1,2-3,6-"}, full, verdict{status: 206, parts: []part{{4, 2}, {0, 2}, {2, 2}, {6, 4}}}},
		{"ranges, the last beyond the end", conditions{ranges: "bytes=0-1,8-100"}, full, verdict{status: 206, parts: []part{{0, 2}, {8, 2}}}},
		{"ranges of all of it", conditions{ranges: "bytes=0-4,5-9"}, full, verdict{status: 206, parts: []part{{0, 5}, {5, 5}}}},
		{"ranges longer than all of it", conditions{ranges: "bytes=0-4,4-9"}, full, verdict{status: 200, part: part{0, 10}}},
		{"as many ranges as there may be", conditions{ranges: "bytes=" + strings.Repeat("0-0,", maxParts)}, object{size: maxParts, ranged: true}, verdict{status: 206, parts: slices.Repeat([]part{{0, 1}}, maxParts)}},
		{"one range more", conditions{ranges: "bytes=" + strings.Repeat("0-0,", maxParts+1)}, object{size: 2 * maxParts, ranged: true}, verdict{status: 200, part: part{0, 2 * maxParts}}},
		{"ranges of another version", conditions{ranges: "bytes=0-0,2-3", ifRange: `"x"`}, full, verdict{status: 200, part: part{0, 10}}},
		{"ranges of HEAD", conditions{ranges: "bytes=0-0,2-3", head: true}, full, verdict{status: 200, part: part{0, 10}}},
		{"ranges, one malformed", conditions{ranges: "bytes=0-0,2"}, full, verdict{status: 416}},
		{"one range left of two", conditions{ranges: "bytes=20-30,2-3"}, full, verdict{status: 206, part: part{2, 2}}},
		{"no range left of two", conditions{ranges: "bytes=20-30,40-"}, full, verdict{status: 416}},
		{"unit", conditions{ranges: "lines=1-2"}, full, verdict{status: 200, part: part{0, 10}}},
		{"unit in capitals", conditions{ranges: "Bytes=1-2"}, full, verdict{status: 206, part: part{1, 2}}},
		{"suffix of nothing", conditions{ranges: "bytes=-0"}, full, verdict{status: 416}},
		{"range of HEAD", conditions{ranges: "bytes=1-2", head: true}, full, verdict{status: 200, part: part{0, 10}}},
		{"range of a stream", conditions{ranges: "bytes=1-2"}, stream, verdict{status: 200, part: part{0, 10}}},
		{"range of a stream, If-Range", conditions{ranges: "bytes=1-2", ifRange: same}, stream, verdict{status: 200, part: part{0, 10}}},
		{"date and a stream", conditions{ifModifiedSince: same}, stream, verdict{status: 200, part: part{0, 10}}},
		{"unknown size", conditions{ranges: "bytes=1-2"}, unknown, verdict{status: 200, part: part{0, proto.UnknownSize}}},
		{"If-Match of unproven bytes", conditions{ifMatch: `"x"`}, stream, verdict{status: 412}},
	} {
		if got := decide(&tt.c, tt.o); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestAppendDate(t *testing.T) {
	for _, d := range []time.Time{testTime, time.Unix(1, 0), time.Unix(1e9, 0), time.Unix(4e9, 0), time.Date(1, 2, 3, 4, 5, 6, 7, time.UTC), testTime.In(time.FixedZone("x", 3600))} {
		if got, want := string(appendDate(nil, d)), d.UTC().Format(http.TimeFormat); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestValidators holds the rule that no validator is given out for bytes that are
// not proven, and which one for those that are.
func TestValidators(t *testing.T) {
	digest := proto.DigestOf([]byte("x"))
	earlier := testTime.Add(-time.Hour)
	for _, tt := range []struct {
		name         string
		s            subject
		etag, ranges bool
		modified     time.Time
	}{
		{"bytes", subject{proven: true, modified: testTime}, true, true, testTime},
		{"bytes, the catalog knows better", subject{proven: true, modified: testTime, entry: &proto.Resolution{Modified: earlier}}, true, true, earlier},
		{"bytes without a date", subject{proven: true}, true, true, time.Time{}},
		{"bytes of the epoch", subject{proven: true, modified: time.Unix(0, 0)}, true, true, time.Time{}},
		{"stream, not proven", subject{whole: true}, false, false, time.Time{}},
		{"stream, not proven, the catalog knows a date", subject{whole: true, entry: &proto.Resolution{Modified: earlier}}, false, false, time.Time{}},
		{"stream, proven", subject{whole: true, proven: true, modified: testTime}, true, false, testTime},
	} {
		tt.s.info = new(proto.PathInfo)
		if tt.s.entry == nil {
			tt.s.entry = new(proto.Resolution)
		}
		tt.s.ref = proto.Ref{Digest: digest, Size: 10}
		var a answer
		answerObject(&a, new(conditions), &tt.s)
		h := make(http.Header)
		a.fill(h, "")
		if _, ok := h["Etag"]; ok != tt.etag {
			t.Errorf("%s: Etag %v", tt.name, h["Etag"])
		}
		if _, ok := h["Accept-Ranges"]; ok != tt.ranges {
			t.Errorf("%s: Accept-Ranges %v", tt.name, h["Accept-Ranges"])
		}
		want := ""
		if !tt.modified.IsZero() {
			want = tt.modified.Format(http.TimeFormat)
		}
		if got := h.Get("Last-Modified"); got != want {
			t.Errorf("%s: Last-Modified %q, want %q", tt.name, got, want)
		}
	}
}

func TestContentTypeAndCacheControl(t *testing.T) {
	listed, mutable, unlisted := proto.Resolution{Listed: true}, proto.Resolution{Listed: true, Mutable: true}, proto.Resolution{}
	plain := proto.PathInfo{ContentType: typeText}
	byHash := proto.PathInfo{ContentType: "application/octet-stream", Immutable: true}
	for name, tt := range map[string]struct {
		info  proto.PathInfo
		entry proto.Resolution
		cache string
	}{
		"a listed package":           {proto.PathInfo{Package: true, ContentType: "application/x-package"}, listed, "public, max-age=86400"},
		"a package that is unlisted": {proto.PathInfo{Package: true, ContentType: "application/x-package"}, unlisted, "public, max-age=0, must-revalidate"},
		"an index":                   {plain, mutable, "public, max-age=0, must-revalidate"},
		"a root":                     {proto.PathInfo{Root: true, ContentType: typeText}, mutable, "public, max-age=0, must-revalidate"},
		"a name made of a sum":       {byHash, listed, "public, max-age=31536000, immutable"},
	} {
		s := subject{loc: proto.Location{Archive: "a", Path: "x"}, info: &tt.info, entry: &tt.entry, proven: true}
		var a answer
		answerObject(&a, new(conditions), &s)
		if a.contentType != tt.info.ContentType || first(a.cache) != tt.cache {
			t.Errorf("%s: %s, %s; want %s, %s", name, a.contentType, a.cache, tt.info.ContentType, tt.cache)
		}
	}
}

func TestNote(t *testing.T) {
	for _, tt := range []struct {
		n    note
		want string
	}{
		{note{result: resultHit, tier: proto.TierDisk, generation: testTime, age: 12, location: true, listed: true},
			"hit; tier=disk; generation=2026-11-20T10:00:00Z; age=12; node=n; listed=yes"},
		{note{result: resultMiss, tier: proto.TierUpstream, location: true}, "miss; tier=upstream; node=n; listed=no"},
		{note{result: resultError, reason: reasonNotFound}, "error; node=n; reason=not-found"},
		{note{result: resultStale, why: "said \"no\"\r\nX-Evil: 1 http://u:p@h/"}, `stale; node=n; note="said 'no'??X-Evil: 1 http://***@h/"`},
	} {
		if got := string(tt.n.append(nil, "n")); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
	if got := fmt.Sprint(refuse(proto.Location{Archive: "a", Path: "b"}, about{}, proto.ErrNotFound)); !strings.Contains(got, "a/b") {
		t.Error(got)
	}
}
