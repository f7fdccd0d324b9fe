package admin

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Offline is what the interface gives out of snapshots, and takes in, for sites without a link. Whatever it does needs the
// socket or the token: archives may be open to some hosts only.
type Offline interface {
	// SnapshotFiles calls head, and then emit for each file of a snapshot: roots, indexes, packages, and what lies beside them.
	SnapshotFiles(ctx context.Context, name string, order ExportOrder, head func(*ExportHead) error, emit func(*SnapshotFile) error) (*ExportEnd, error)
	// SnapshotFile opens a file of a snapshot, wherever it comes from.
	SnapshotFile(ctx context.Context, name string, file NamedFile) (*proto.Blob, error)
	// BeginImport verifies a snapshot's root files, by digest.
	BeginImport(ctx context.Context, record []byte, roots map[proto.Digest][]byte) (*ImportBegun, error)
	// LackingFiles says which files are to be sent, by their places.
	LackingFiles(ctx context.Context, id proto.Digest, files []NamedFile) ([]int, error)
	ImportFile(ctx context.Context, id proto.Digest, file NamedFile, body io.Reader) (*Done, error)
	FinishImport(ctx context.Context, id proto.Digest, name, by string) (*SnapshotResult, error)
}

// ExportOrder says which files of a snapshot to list.
type ExportOrder struct {
	// All lists every package, not only those that the node has. Beside adds files that clients ask for beside packages and
	// that no index lists, such as signatures.
	All, Beside bool
}

// ExportHead is a snapshot that is to be carried to another site.
type ExportHead struct {
	// Name is that of the snapshot, also where a channel was asked for.
	Name  string    `json:"name"`
	Taken time.Time `json:"taken"`
	// Record is the text of the snapshot's record.
	Record []byte `json:"record"`
}

// SnapshotFile is a file of a snapshot.
type SnapshotFile struct {
	Kind    string `json:"kind"` // root, index, package or beside
	Archive string `json:"archive"`
	// Paths are where clients ask for it, at least one.
	Paths []string `json:"paths"`
	// SHA256 and Size are not known where Missing says why it cannot be had.
	SHA256 proto.Digest `json:"sha256,omitzero"`
	Size   int64        `json:"size"`
	Stored bool         `json:"stored,omitempty"`
	// Needed says that the suite is of no use to clients without it.
	Needed  bool   `json:"needed,omitempty"`
	Missing string `json:"missing,omitempty"`
}

// Named is the file by its first name.
func (f *SnapshotFile) Named() NamedFile {
	return NamedFile{Archive: f.Archive, Path: f.Paths[0], SHA256: f.SHA256, Size: f.Size}
}

// ExportEnd is what is listed and left out.
type ExportEnd struct {
	// Unprovable are packages for which no strong sum is listed, Unstored those that the node does not have, Conflicting
	// names of which two suites list different contents.
	Unprovable  int `json:"unprovable,omitempty"`
	Unstored    int `json:"unstored,omitempty"`
	Conflicting int `json:"conflicting,omitempty"`
	// Unread says of which indexes nothing is known, a sentence each.
	Unread []string `json:"unread,omitempty"`
}

// NamedFile is a file by one of its names.
type NamedFile struct {
	Archive string       `json:"archive"`
	Path    string       `json:"path"`
	SHA256  proto.Digest `json:"sha256"`
	Size    int64        `json:"size"`
}

func (f NamedFile) query() url.Values {
	return url.Values{"archive": {f.Archive}, "path": {f.Path}, "sha256": {f.SHA256.String()}, "size": {strconv.FormatInt(f.Size, 10)}}
}

// ImportBegun is an import whose roots are trusted.
type ImportBegun struct {
	Import proto.Digest `json:"import"`
}

// line is one line of the list of files: one of its fields.
type line struct {
	Head  *ExportHead   `json:"head,omitempty"`
	File  *SnapshotFile `json:"file,omitempty"`
	End   *ExportEnd    `json:"end,omitempty"`
	Error *Error        `json:"error,omitempty"`
}

const (
	filesSuffix   = "/files"
	fileSuffix    = "/file"
	lackingSuffix = "/lacking"
	finishSuffix  = "/finish"
	recordName    = "record" // in the body that begins an import
)

// maxRoots bounds the root files of a snapshot together, and maxLacking a list of files, in bytes.
const maxRoots, maxLacking = 512 << 20, 16 << 20

func serveOffline(mux *http.ServeMux, o Offline) {
	mux.HandleFunc("POST "+snapshotsPath+filesSuffix, func(w http.ResponseWriter, r *http.Request) { answerFiles(w, r, o) })
	mux.HandleFunc("POST "+snapshotsPath+fileSuffix, func(w http.ResponseWriter, r *http.Request) { answerFile(w, r, o) })
	mux.HandleFunc("POST "+importsPath, func(w http.ResponseWriter, r *http.Request) {
		record, roots, err := readRoots(r.Body)
		if err != nil {
			answer(w, http.StatusBadRequest, Error{Message: err.Error()})
			return
		}
		begun, err := o.BeginImport(r.Context(), record, roots)
		answerOr(w, http.StatusConflict, begun, err)
	})
	mux.HandleFunc("POST "+importsPath+lackingSuffix, func(w http.ResponseWriter, r *http.Request) {
		id, err := proto.ParseDigest(r.URL.Query().Get("import"))
		var files []NamedFile
		if err == nil {
			err = json.NewDecoder(io.LimitReader(r.Body, maxLacking)).Decode(&files)
		}
		if err != nil {
			answer(w, http.StatusBadRequest, Error{Message: err.Error()})
			return
		}
		lacking, err := o.LackingFiles(r.Context(), id, files)
		answerOr(w, http.StatusConflict, lacking, err)
	})
	mux.HandleFunc("POST "+importsPath+fileSuffix, func(w http.ResponseWriter, r *http.Request) {
		id, err := proto.ParseDigest(r.URL.Query().Get("import"))
		file, wrong := namedFile(r)
		if err = errors.Join(err, wrong); err != nil {
			answer(w, http.StatusBadRequest, Error{Message: err.Error()})
			return
		}
		done, err := o.ImportFile(r.Context(), id, file, r.Body)
		// Clients that still write would take the end of the connection for a failure of it.
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, file.Size+1))
		answerOr(w, http.StatusConflict, done, err)
	})
	mux.HandleFunc("POST "+importsPath+finishSuffix, func(w http.ResponseWriter, r *http.Request) {
		id, err := proto.ParseDigest(r.URL.Query().Get("import"))
		if err != nil {
			answer(w, http.StatusBadRequest, Error{Message: err.Error()})
			return
		}
		result, err := o.FinishImport(r.Context(), id, r.URL.Query().Get("name"), r.URL.Query().Get("by"))
		answerOr(w, http.StatusConflict, result, err)
	})
}

// namedFile reads the query of a request. A body is not read for it.
func namedFile(r *http.Request) (f NamedFile, err error) {
	q := r.URL.Query()
	f.Archive, f.Path = q.Get("archive"), q.Get("path")
	var wrong error
	f.SHA256, err = proto.ParseDigest(q.Get("sha256"))
	f.Size, wrong = strconv.ParseInt(q.Get("size"), 10, 64)
	if err == nil && (wrong != nil || f.Size < 0) {
		err = fmt.Errorf("size: %q is no number of bytes", q.Get("size"))
	}
	return f, err
}

// answerFiles lists the files of a snapshot. What fails after the first line is its last one.
func answerFiles(w http.ResponseWriter, r *http.Request, o Offline) {
	buffered := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(buffered)
	began := false
	end, err := o.SnapshotFiles(r.Context(), r.FormValue("name"), ExportOrder{r.FormValue("all") == "1", r.FormValue("beside") == "1"}, func(head *ExportHead) error {
		began = true
		w.Header().Set("Content-Type", "application/jsonl")
		return encoder.Encode(line{Head: head})
	}, func(f *SnapshotFile) error { return encoder.Encode(line{File: f}) })
	switch {
	case err != nil && !began:
		answerOr(w, http.StatusNotFound, nil, err)
		return
	case err != nil:
		_ = encoder.Encode(line{Error: &Error{Message: err.Error()}}) // an error means that the client has gone
	default:
		_ = encoder.Encode(line{End: end})
	}
	_ = buffered.Flush()
}

func answerFile(w http.ResponseWriter, r *http.Request, o Offline) {
	file, err := namedFile(r)
	if err != nil {
		answer(w, http.StatusBadRequest, Error{Message: err.Error()})
		return
	}
	b, err := o.SnapshotFile(r.Context(), r.FormValue("name"), file)
	if err != nil {
		answerOr(w, http.StatusBadGateway, nil, err)
		return
	}
	defer b.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(file.Size, 10))
	if !b.Modified.IsZero() {
		w.Header().Set("Last-Modified", b.Modified.UTC().Format(http.TimeFormat))
	}
	// A body that ends early shows by its length.
	_, _ = io.Copy(w, b.Reader())
}

// readRoots reads the body that begins an import.
func readRoots(body io.Reader) (record []byte, roots map[proto.Digest][]byte, err error) {
	roots = make(map[proto.Digest][]byte)
	left := int64(maxRoots)
	for t := tar.NewReader(body); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return record, roots, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if left -= h.Size; left < 0 {
			return nil, nil, fmt.Errorf("the root files of the snapshot have more than %d bytes", maxRoots)
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return nil, nil, err
		}
		if h.Name == recordName {
			record = data
			continue
		}
		roots[proto.DigestOf(data)] = data
	}
}

// SnapshotFiles asks for the files of a snapshot, or of the snapshot that a channel stands for.
func (c *Client) SnapshotFiles(ctx context.Context, name string, order ExportOrder, emit func(*SnapshotFile) error) (*ExportHead, *ExportEnd, error) {
	query := url.Values{"name": {name}}
	if order.All {
		query.Set("all", "1")
	}
	if order.Beside {
		query.Set("beside", "1")
	}
	body, _, err := c.stream(ctx, snapshotsPath+filesSuffix, query, nil)
	if err != nil {
		return nil, nil, err
	}
	defer body.Close()
	var head *ExportHead
	for d := json.NewDecoder(body); ; {
		var l line
		if err := d.Decode(&l); err != nil {
			return nil, nil, fmt.Errorf("the list of files that the node at %s gives ends early: %w", c.addr, err)
		}
		switch {
		case l.Error != nil:
			return nil, nil, l.Error
		case l.Head != nil:
			head = l.Head
		case l.End != nil && head != nil:
			return head, l.End, nil
		case l.File != nil && len(l.File.Paths) > 0:
			if err := emit(l.File); err != nil {
				return nil, nil, err
			}
		}
	}
}

// SnapshotFile opens a file of a snapshot. modified is zero where upstream gave no date. The caller checks the bytes.
func (c *Client) SnapshotFile(ctx context.Context, name string, file NamedFile) (body io.ReadCloser, modified time.Time, err error) {
	query := file.query()
	query.Set("name", name)
	body, header, err := c.stream(ctx, snapshotsPath+fileSuffix, query, nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	modified, _ = http.ParseTime(header.Get("Last-Modified"))
	return body, modified, nil
}

// BeginImport shows the node the record of a snapshot and its root files.
func (c *Client) BeginImport(ctx context.Context, record []byte, roots map[proto.Digest][]byte) (*ImportBegun, error) {
	var body bytes.Buffer
	t := tar.NewWriter(&body)
	add := func(name string, data []byte) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := t.Write(data)
		return err
	}
	err := add(recordName, record)
	for d, data := range roots {
		err = errors.Join(err, add(d.String(), data))
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return nil, err
	}
	var begun ImportBegun
	return &begun, c.send(ctx, importsPath, nil, bytes.NewReader(body.Bytes()), &begun)
}

// LackingFiles asks which files are to be sent, by their places among files.
func (c *Client) LackingFiles(ctx context.Context, id proto.Digest, files []NamedFile) (lacking []int, err error) {
	body, err := json.Marshal(files)
	if err != nil {
		return nil, err
	}
	return lacking, c.send(ctx, importsPath+lackingSuffix, url.Values{"import": {id.String()}}, bytes.NewReader(body), &lacking)
}

// ImportFile sends one file. It is not sent again over the socket where TCP is refused: BeginImport was before.
func (c *Client) ImportFile(ctx context.Context, id proto.Digest, file NamedFile, body io.Reader) error {
	query := file.query()
	query.Set("import", id.String())
	var done Done
	return c.send(ctx, importsPath+fileSuffix, query, body, &done)
}

// FinishImport gives the snapshot its name.
func (c *Client) FinishImport(ctx context.Context, id proto.Digest, name, by string) (*SnapshotResult, error) {
	var r SnapshotResult
	return &r, c.send(ctx, importsPath+finishSuffix, url.Values{"import": {id.String()}, "name": {name}, "by": {by}}, nil, &r)
}

// send does a request with a body, and decodes its answer.
func (c *Client) send(ctx context.Context, path string, query url.Values, body io.Reader, into any) error {
	answer, _, err := c.stream(ctx, path, query, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	return json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(into)
}

// stream does one request, and returns the body of its answer. What the node does not take over TCP goes to the socket
// that it names, from then on.
func (c *Client) stream(ctx context.Context, path string, query url.Values, body io.Reader) (io.ReadCloser, http.Header, error) {
	if local := c.local.Load(); local != nil {
		return local.stream(ctx, path, query, body)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, c.unreachable(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, resp.Header, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the answer of the node at %s: %w", c.addr, err)
	}
	said := &Error{}
	if json.Unmarshal(text, said) != nil || said.Message == "" {
		return nil, nil, fmt.Errorf("what listens at %s answers %s; is it the admin interface of an aptmesh node?", c.addr, resp.Status)
	}
	seeker, again := body.(io.Seeker)
	if said.Socket == "" || body != nil && !again {
		return nil, nil, said
	}
	local, err := NewClient("unix:"+said.Socket, "")
	if err != nil {
		return nil, nil, said
	}
	if body != nil {
		if _, err := seeker.Seek(0, io.SeekStart); err != nil {
			return nil, nil, err
		}
	}
	c.local.Store(local)
	answer, header, err := local.stream(ctx, path, query, body)
	if errors.Is(err, ErrNotRunning) || errors.Is(err, fs.ErrPermission) {
		return nil, nil, said // it says which requests are allowed
	}
	return answer, header, err
}
