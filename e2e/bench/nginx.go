package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nginxCommand sets nginx up as its users do for archives.
func nginxCommand(p place) (*exec.Cmd, error) { return nginxCache(p, "") }

// nginxPatient is nginxCommand with clients that wait for the first one's fetch for a
// minute, not for five seconds.
func nginxPatient(p place) (*exec.Cmd, error) {
	return nginxCache(p, "proxy_cache_lock_timeout 1m; proxy_cache_lock_age 1m;")
}

func nginxCache(p place, more string) (*exec.Cmd, error) {
	return nginxWith(p, fmt.Sprintf(`
  upstream archive { server %[2]s; keepalive 32; }
  server {
    listen %[1]s backlog=4096;
    location / {
      proxy_pass http://archive;%[3]s
      %[4]s
    }
  }
`, p.addr, p.upstream, nginxCaching, more))
}

// nginxCaching is what every location has that fetches what it does not hold.
const nginxCaching = `
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache archive;
      proxy_cache_key $uri;
      proxy_cache_lock on;
      proxy_cache_valid 200 1d;
      proxy_cache_revalidate on;
      proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
      proxy_cache_background_update on;`

// nginxFiles has nginx serve the files of the disk. With keys it is for those alone who
// prove that they are of the cluster.
func nginxFiles(p place, keys string) (*exec.Cmd, error) {
	tls, secured := "", ""
	if keys != "" {
		tls = " ssl"
		secured = fmt.Sprintf(`
    ssl_protocols TLSv1.3;
    ssl_certificate %[1]s/cert.pem;
    ssl_certificate_key %[1]s/key.pem;
    ssl_client_certificate %[1]s/ca.pem;
    ssl_verify_client on;`, keys)
	}
	return nginxWith(p, fmt.Sprintf(`
  server {
    listen %s%s backlog=4096;
    root %s;%s
  }
`, p.addr, tls, p.files, secured))
}

// nginxBehindTLS is nginxCommand where upstream is nginxFiles with keys; its
// certificate is for the name given.
func nginxBehindTLS(p place, keys, name string) (*exec.Cmd, error) {
	return nginxWith(p, fmt.Sprintf(`
  upstream archive { server %[2]s; keepalive 32; }
  server {
    listen %[1]s backlog=4096;
    location / {
      proxy_pass https://archive;%[3]s
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_certificate %[4]s/cert.pem;
      proxy_ssl_certificate_key %[4]s/key.pem;
      proxy_ssl_trusted_certificate %[4]s/ca.pem;
      proxy_ssl_verify on;
      proxy_ssl_name %[5]s;
    }
  }
`, p.addr, p.upstream, nginxCaching, keys, name))
}

// nginxWith starts nginx with one worker for the one core, and with everything that
// makes it faster for this work.
func nginxWith(p place, servers string) (*exec.Cmd, error) {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // its usual user may not enter a temporary directory
	}
	config := filepath.Join(p.dir, "nginx.conf")
	err := writeConfig(config, fmt.Sprintf(`
%[1]s
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log warn;
events { worker_connections 16000; }
http {
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 75s;
  keepalive_requests 1000000;
  open_file_cache max=10000 inactive=10m;
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
  proxy_cache_path %[2]s/cache levels=1:2 keys_zone=archive:64m inactive=1d max_size=50g use_temp_path=off;
%[3]s
}
`, user, p.dir, servers))
	return exec.Command(p.program, "-p", p.dir, "-c", config), err
}
