package main

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
)

const (
	cluster = "main"
	api     = "/clusters/" + cluster
)

// What a page of this server may load: nothing from elsewhere.
const policy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"font-src 'self' data:; img-src 'self' data:; object-src 'none'; style-src 'self' 'unsafe-inline'"

func newHandler(server *url.URL, transport http.RoundTripper, pages fs.FS) http.Handler {
	sessions := newSessions()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"clusters": []any{map[string]any{"name": cluster, "auth_type": ""}}})
	})
	mux.HandleFunc("GET /plugins", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, []any{})
	})
	mux.Handle("POST "+api+"/set-token", sameOrigin(login(sessions, server, transport)))
	mux.Handle(api+"/", sameOrigin(passOn(sessions, server, transport)))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { show(w, r, pages) })
	return mux
}

// sameOrigin refuses what a page of another origin asks, which a browser would give the session's
// cookie all the same: to cookies, all ports of a host are the same site, and any WebSocket may be
// opened from any page.
func sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
		from, err := url.Parse(origin)
		if (site != "" && site != "same-origin") || (origin != "" && (err != nil || from.Host != r.Host)) {
			http.Error(w, "only this server's own pages may ask", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// login begins a session for a token that the API server takes, or ends the session where there is no
// token.
func login(sessions *sessions, server *url.URL, transport http.RoundTripper) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var given struct {
			Token string `json:"token"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<14)).Decode(&given); err != nil {
			http.Error(w, "the body is no JSON object with a token", http.StatusBadRequest)
			return
		}
		if given.Token == "" {
			sessions.end(w, r)
			answer(w, map[string]any{})
			return
		}
		status, err := accepted(r, given.Token, server, transport)
		if err != nil {
			http.Error(w, "the API server does not answer", http.StatusBadGateway)
			return
		}
		// A token without any right is still one that the API server knows.
		if status != http.StatusOK && status != http.StatusForbidden {
			http.Error(w, "the API server does not take the token", http.StatusUnauthorized)
			return
		}
		sessions.end(w, r)
		sessions.begin(w, given.Token)
		answer(w, map[string]any{})
	}
}

// accepted asks for what anybody may read who is logged in; for an unknown token the answer is 401.
func accepted(r *http.Request, token string, server *url.URL, transport http.RoundTripper) (int, error) {
	question, err := http.NewRequestWithContext(r.Context(), http.MethodGet, server.JoinPath("version").String(), nil)
	if err != nil {
		return 0, err
	}
	question.Header.Set("Authorization", "Bearer "+token)
	response, err := transport.RoundTrip(question)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}

// passOn passes a question on to the API server with the token of its session, or without any.
func passOn(sessions *sessions, server *url.URL, transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		FlushInterval: -1,
		Transport:     transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, api)
			r.Out.URL.RawPath = strings.TrimPrefix(r.In.URL.RawPath, api)
			r.SetURL(server)
			for name := range r.Out.Header {
				if name == "Authorization" || name == "Cookie" ||
					strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Remote-") {
					r.Out.Header.Del(name)
				}
			}
			// The API server opens a WebSocket only where this is its own.
			r.Out.Header.Set("Origin", server.String())
			if token := sessions.token(r.In); token != "" {
				r.Out.Header.Set("Authorization", "Bearer "+token)
			}
		},
		ModifyResponse: func(response *http.Response) error {
			// A program of the cluster may answer through the API, with pages of its own.
			response.Header.Set("Content-Security-Policy", "sandbox")
			response.Header.Set("X-Content-Type-Options", "nosniff")
			response.Header.Del("Set-Cookie")
			return nil
		},
	}
}

// show answers with a file of the pages, or with the page itself, which knows what its paths mean.
func show(w http.ResponseWriter, r *http.Request, pages fs.FS) {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if state, err := fs.Stat(pages, name); err != nil || state.IsDir() {
		name = "index.html"
	}
	keep := "no-cache"
	if strings.HasPrefix(name, "assets/") {
		// Their names have a digest of what is in them.
		keep = "public, max-age=31536000, immutable"
	}
	w.Header().Set("Cache-Control", keep)
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeFileFS(w, r, pages, name)
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}
