package main

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"
)

const (
	cookieName = "hardway-session"
	// A session ends at the latest then; the token in it may end before.
	longest = 8 * time.Hour
	// More sessions than a cluster has people: the oldest ends where there would be more.
	most = 256
)

type session struct {
	token string
	ends  time.Time
}

// sessions holds the tokens of those who are logged in, in memory alone. A browser holds the name of its
// session, and never the token: it gives its cookies to all ports of a host, so to others' pages as well.
type sessions struct {
	mutex sync.Mutex
	named map[string]session
	now   func() time.Time
}

func newSessions() *sessions {
	return &sessions{named: map[string]session{}, now: time.Now}
}

func (s *sessions) begin(w http.ResponseWriter, token string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.makeRoom()
	name := rand.Text()
	s.named[name] = session{token: token, ends: s.now().Add(longest)}
	set(w, name, int(longest.Seconds()))
}

// makeRoom removes sessions that have ended, and the oldest where there are too many.
func (s *sessions) makeRoom() {
	oldest := ""
	for name, held := range s.named {
		if s.now().After(held.ends) {
			delete(s.named, name)
		} else if oldest == "" || held.ends.Before(s.named[oldest].ends) {
			oldest = name
		}
	}
	if len(s.named) >= most {
		delete(s.named, oldest)
	}
}

func (s *sessions) end(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if cookie, err := r.Cookie(cookieName); err == nil {
		delete(s.named, cookie.Value)
	}
	set(w, "", -1)
}

func (s *sessions) token(r *http.Request) string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	held := s.named[cookie.Value]
	if s.now().After(held.ends) {
		return ""
	}
	return held.token
}

func set(w http.ResponseWriter, value string, seconds int) {
	w.Header().Del("Set-Cookie")
	http.SetCookie(w, &http.Cookie{
		Name:     cookieName,
		Value:    value,
		Path:     "/",
		HttpOnly: true,
		SameSite: http.SameSiteStrictMode,
		MaxAge:   seconds,
	})
}
