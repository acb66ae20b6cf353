package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const known, powerless = "known.token", "powerless.token"

// apiServer answers as an API server does: 401 for unknown tokens, and what it was asked.
func apiServer(t *testing.T) (*httptest.Server, *[]*http.Request) {
	t.Helper()
	asked := []*http.Request{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r)
		switch token := r.Header.Get("Authorization"); {
		case token == "Bearer "+powerless && r.URL.Path == "/version":
			w.WriteHeader(http.StatusForbidden)
		case token != "Bearer "+known:
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("Upgrade") == "websocket":
			echo(w, r)
		default:
			w.Header().Set("Set-Cookie", "of=aprogram")
			fmt.Fprintf(w, "%s?%s", r.URL.EscapedPath(), r.URL.RawQuery)
		}
	}))
	t.Cleanup(server.Close)
	return server, &asked
}

// echo takes the connection over, says its query, and then what it is sent.
func echo(w http.ResponseWriter, r *http.Request) {
	connection, buffer, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer connection.Close()
	fmt.Fprintf(buffer, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n%s\n", r.URL.RawQuery)
	buffer.Flush()
	line, _ := buffer.ReadString('\n')
	buffer.WriteString(line)
	buffer.Flush()
}

func handlerFor(t *testing.T, server *httptest.Server) http.Handler {
	t.Helper()
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	pages := fstest.MapFS{
		"index.html":       {Data: []byte("<html>the page</html>")},
		"assets/main-1.js": {Data: []byte("run()")},
	}
	return newHandler(address, server.Client().Transport, pages)
}

func ask(handler http.Handler, method, path, body string, headers map[string]string) *http.Response {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder.Result()
}

func logIn(t *testing.T, handler http.Handler, token string) (*http.Response, *http.Cookie) {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"token": token})
	response := ask(handler, "POST", "/clusters/main/set-token", string(body), nil)
	cookies := response.Cookies()
	if len(cookies) == 0 {
		return response, nil
	}
	return response, cookies[len(cookies)-1]
}

func with(cookie *http.Cookie) map[string]string {
	return map[string]string{"Cookie": cookie.Name + "=" + cookie.Value}
}

func text(t *testing.T, response *http.Response) string {
	t.Helper()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestAQuestionIsAskedWithTheTokenOfItsSession(t *testing.T) {
	server, asked := apiServer(t)
	handler := handlerFor(t, server)
	_, cookie := logIn(t, handler, known)
	response := ask(handler, "GET", "/clusters/main/api/v1/a%2Fb?limit=5", "", with(cookie))
	if got := text(t, response); response.StatusCode != 200 || got != "/api/v1/a%2Fb?limit=5" {
		t.Fatal(response.StatusCode, got)
	}
	if got := (*asked)[len(*asked)-1]; got.Header.Get("Cookie") != "" || got.Header.Get("Origin") != server.URL {
		t.Fatal(got.Header)
	}
	if response.Header.Get("Content-Security-Policy") != "sandbox" || response.Header.Get("Set-Cookie") != "" {
		t.Fatal("a program of the cluster may act as these pages", response.Header)
	}
}

func TestWithoutASessionThereIsNoToken(t *testing.T) {
	server, asked := apiServer(t)
	handler := handlerFor(t, server)
	for _, headers := range []map[string]string{
		nil,
		{"Authorization": "Bearer " + known},
		{"Cookie": cookieName + "=guessed"},
	} {
		if response := ask(handler, "GET", "/clusters/main/api", "", headers); response.StatusCode != 401 {
			t.Fatal(response.StatusCode)
		}
		if got := (*asked)[len(*asked)-1].Header.Get("Authorization"); got != "" {
			t.Fatal(got)
		}
	}
}

func TestNobodyActsAsSomebodyElse(t *testing.T) {
	server, asked := apiServer(t)
	handler := handlerFor(t, server)
	_, cookie := logIn(t, handler, known)
	headers := with(cookie)
	for _, name := range []string{"Impersonate-User", "Impersonate-Extra-Scope", "X-Remote-User", "x-remote-group"} {
		headers[name] = "admin"
	}
	ask(handler, "GET", "/clusters/main/api", "", headers)
	for name := range (*asked)[len(*asked)-1].Header {
		if strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Remote-") {
			t.Error(name)
		}
	}
}

func TestABrowserHoldsTheNameOfASessionAndNotTheToken(t *testing.T) {
	server, _ := apiServer(t)
	_, cookie := logIn(t, handlerFor(t, server), known)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" {
		t.Error(cookie)
	}
	if strings.Contains(cookie.Value, known) || len(cookie.Value) < 26 {
		t.Error(cookie.Value)
	}
}

func TestATokenThatTheServerDoesNotKnowBeginsNoSession(t *testing.T) {
	server, _ := apiServer(t)
	handler := handlerFor(t, server)
	if response, cookie := logIn(t, handler, "another"); response.StatusCode != 401 || cookie != nil {
		t.Error(response.StatusCode, cookie)
	}
	if response, cookie := logIn(t, handler, powerless); response.StatusCode != 200 || cookie == nil {
		t.Error("a token without rights is known all the same", response.StatusCode)
	}
	if response := ask(handler, "POST", "/clusters/main/set-token", "no JSON", nil); response.StatusCode != 400 {
		t.Error(response.StatusCode)
	}
	server.Close()
	if response, _ := logIn(t, handler, known); response.StatusCode != 502 {
		t.Error(response.StatusCode)
	}
}

func TestWhoLogsOutHasNoSession(t *testing.T) {
	server, _ := apiServer(t)
	handler := handlerFor(t, server)
	_, cookie := logIn(t, handler, known)
	for _, status := range []int{200, 401} {
		if response := ask(handler, "GET", "/clusters/main/api", "", with(cookie)); response.StatusCode != status {
			t.Fatal(response.StatusCode)
		}
		response := ask(handler, "POST", "/clusters/main/set-token", `{"token":null}`, with(cookie))
		if ended := response.Cookies(); len(ended) != 1 || ended[0].MaxAge >= 0 {
			t.Fatal(ended)
		}
	}
}

func TestASessionEnds(t *testing.T) {
	held := newSessions()
	now := time.Now()
	held.now = func() time.Time { return now }
	cookies := []*http.Cookie{}
	for range most + 1 {
		recorder := httptest.NewRecorder()
		held.begin(recorder, known)
		cookies = append(cookies, recorder.Result().Cookies()[0])
		now = now.Add(time.Second)
	}
	token := func(cookie *http.Cookie) string {
		request := httptest.NewRequest("GET", "/", nil)
		request.AddCookie(cookie)
		return held.token(request)
	}
	if token(cookies[0]) != "" || token(cookies[1]) != known || token(cookies[most]) != known {
		t.Error("the oldest of too many ends")
	}
	now = now.Add(longest)
	if token(cookies[most]) != "" {
		t.Error("it ends after its time")
	}
	held.begin(httptest.NewRecorder(), known)
	if len(held.named) != 1 {
		t.Error("what has ended is kept", len(held.named))
	}
}

func TestOnlyItsOwnPagesAsk(t *testing.T) {
	server, _ := apiServer(t)
	handler := handlerFor(t, server)
	_, cookie := logIn(t, handler, known)
	for _, row := range []struct {
		name, value string
		status      int
	}{
		{"Origin", "http://example.com", 200},
		{"Origin", "http://example.com:8080", 403},
		{"Origin", "null", 403},
		{"Origin", "http://elsewhere.example", 403},
		{"Sec-Fetch-Site", "same-origin", 200},
		{"Sec-Fetch-Site", "same-site", 403},
		{"Sec-Fetch-Site", "cross-site", 403},
	} {
		headers := with(cookie)
		headers[row.name] = row.value
		for method, path := range map[string]string{"GET": "/clusters/main/api", "POST": "/clusters/main/set-token"} {
			if method == "POST" && row.status == 200 {
				continue
			}
			if response := ask(handler, method, path, "{}", headers); response.StatusCode != row.status {
				t.Error(row, method, response.StatusCode)
			}
		}
	}
}

func TestAWebSocketKeepsItsQueryAndPassesBothWays(t *testing.T) {
	server, _ := apiServer(t)
	handler := handlerFor(t, server)
	_, cookie := logIn(t, handler, known)
	own := httptest.NewServer(handler)
	defer own.Close()
	connection, err := net.Dial("tcp", own.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "GET /clusters/main/api/v1/pods?watch=1 HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nCookie: %s=%s\r\n\r\n",
		own.Listener.Addr(), own.URL, cookie.Name, cookie.Value)
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != 101 {
		t.Fatal(response, err)
	}
	if line, _ := reader.ReadString('\n'); line != "watch=1\n" {
		t.Fatal(line)
	}
	fmt.Fprintln(connection, "typed by a person")
	if line, _ := reader.ReadString('\n'); line != "typed by a person\n" {
		t.Fatal(line)
	}
}

func TestEachPathThatIsNoFileIsThePage(t *testing.T) {
	server, _ := apiServer(t)
	handler := handlerFor(t, server)
	for _, path := range []string{"/", "/c/main/pods", "/assets"} {
		response := ask(handler, "GET", path, "", nil)
		if got := text(t, response); response.StatusCode != 200 || got != "<html>the page</html>" {
			t.Error(path, response.StatusCode, got)
		}
		if !strings.Contains(response.Header.Get("Content-Security-Policy"), "default-src 'self'") {
			t.Error(path, response.Header)
		}
	}
	response := ask(handler, "GET", "/assets/main-1.js", "", nil)
	if got := text(t, response); got != "run()" || !strings.Contains(response.Header.Get("Cache-Control"), "immutable") {
		t.Error(got, response.Header)
	}
}
