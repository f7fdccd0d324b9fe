package main

import (
	"fmt"
	"net/http"
)

// goStaticArg makes this program a static file server instead of a benchmark.
const goStaticArg = "serve-static-files"

// serveStatic is net/http and http.ServeContent over a directory and nothing
// else: what any Go cache that is written the usual way can at best become.
func serveStatic(dir, addr string) error {
	root := http.Dir(dir)
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := root.Open(r.URL.Path)
		if err != nil {
			http.Error(w, fmt.Sprintf("%s is not here", r.URL.Path), http.StatusNotFound)
			return
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			http.Error(w, fmt.Sprintf("%s is no file", r.URL.Path), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", info.ModTime(), f)
	}))
}
