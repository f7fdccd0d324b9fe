package mirrorlist

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// listConfig is a configuration with time for a slow machine.
func listConfig() *config.Config {
	cfg := config.Default()
	cfg.UpstreamClient.AuthConf, cfg.UpstreamClient.Proxy = nil, upstream.Direct
	cfg.UpstreamClient.ConnectTimeout, cfg.UpstreamClient.HeaderTimeout = time.Minute, time.Minute
	return cfg
}

func proxyAt(t *testing.T, at string) upstream.Proxy {
	t.Helper()
	p, err := upstream.ParseProxy(at)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// readList fetches a list as the node does.
func readList(t *testing.T, cfg *config.Config, at string, files upstream.TLSFiles) (string, error) {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	client, err := (&Reader{}).client(cfg, u, files)
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	text, err := fetchList(t.Context(), client, u, http.Header{"User-Agent": {"aptmesh/test"}})
	return string(text), err
}

func TestFetchList(t *testing.T) {
	const list = "http://a.example.org/u\n"
	mux := http.NewServeMux()
	mux.HandleFunc("/list", func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "aptmesh/test" || r.Method != http.MethodGet {
			t.Errorf("%s by %q", r.Method, r.UserAgent())
		}
		io.WriteString(w, list)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/list", http.StatusFound) })
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/home", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost:3142/list", http.StatusFound)
	})
	mux.HandleFunc("/inside", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.1.2.3:1/list", http.StatusFound)
	})
	mux.HandleFunc("/busy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "later", http.StatusServiceUnavailable) })
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, list)
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, strings.Repeat("#\n", aptconf.MaxMirrorList/2+1))
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, list)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	for path, want := range map[string]string{ // "" or a part of the error
		"/list": "", "/moved": "",
		"/round": "more than 5 redirects", "/home": "this node itself", "/inside": "upstream_client.internal_allow", "/busy": "503", "/page": "HTML page",
		"/long": "longer than 1 MiB", "/short": "unexpected EOF", "/none": "404",
	} {
		text, err := readList(t, listConfig(), srv.URL+path, upstream.TLSFiles{})
		switch {
		case want == "" && (err != nil || text != list):
			t.Errorf("%s: %q, %v", path, text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %q, %v; want an error with %q", path, text, err, want)
		}
	}
	srv.Close()
	if _, err := readList(t, listConfig(), srv.URL+"/list", upstream.TLSFiles{}); err == nil {
		t.Error("a server that is gone answers")
	}
}

// The parent proxy of the archives is that of their lists.
func TestFetchListThroughProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := basicProxyAuth(r); !ok || user != "me" || password != "hunter2" {
			http.Error(w, "who are you?", http.StatusProxyAuthRequired)
			return
		}
		fmt.Fprintf(w, "http://through.example.org/%s\n", r.URL.Host)
	}))
	t.Cleanup(proxy.Close)
	cfg := listConfig()
	cfg.UpstreamClient.Proxy = proxyAt(t, strings.Replace(proxy.URL, "//", "//me:hunter2@", 1))
	text, err := readList(t, cfg, "http://lists.example.org/mirrors.txt", upstream.TLSFiles{})
	if err != nil || text != "http://through.example.org/lists.example.org\n" {
		t.Errorf("%q, %v", text, err)
	}
	cfg.UpstreamClient.Proxy = proxyAt(t, strings.Replace(proxy.URL, "//", "//me:wr0ng@", 1))
	if text, err = readList(t, cfg, "http://lists.example.org/mirrors.txt", upstream.TLSFiles{}); err == nil || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("%q, %v", text, err)
	}
}

func basicProxyAuth(r *http.Request) (user, password string, ok bool) {
	r = &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	return r.BasicAuth()
}

// selfSigned makes a certificate that is its own CA, for a server or a client, and
// returns the paths of its files.
func selfSigned(t *testing.T, name string) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return cert, certFile, keyFile
}

// A list may be behind a private CA, and want a certificate.
func TestFetchListOverTLS(t *testing.T) {
	serverCert, ca, _ := selfSigned(t, "server")
	clientCert, cert, key := selfSigned(t, "client")
	clients := x509.NewCertPool()
	clients.AddCert(clientCert.Leaf)

	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "plain") }))
	t.Cleanup(plain.Close)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, plain.URL, http.StatusFound)
			return
		}
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	at := strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)

	if text, err := readList(t, listConfig(), at+"/list", upstream.TLSFiles{CA: ca, Cert: cert, Key: key}); err != nil || text != "client" {
		t.Errorf("%q, %v", text, err)
	}
	for what, files := range map[string]upstream.TLSFiles{"without the CA": {Cert: cert, Key: key}, "without a certificate": {CA: ca}} {
		if text, err := readList(t, listConfig(), at+"/list", files); err == nil {
			t.Errorf("%s: %q", what, text)
		}
	}
	if text, err := readList(t, listConfig(), at+"/down", upstream.TLSFiles{CA: ca, Cert: cert, Key: key}); err == nil || !strings.Contains(err.Error(), "away from https") {
		t.Errorf("a redirect to http: %q, %v", text, err)
	}
	if _, err := readList(t, listConfig(), at, upstream.TLSFiles{CA: key}); err == nil || !strings.Contains(err.Error(), "tls: ca") {
		t.Errorf("a key in the place of a CA: %v", err)
	}
}
