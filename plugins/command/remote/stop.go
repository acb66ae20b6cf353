package remote

import (
	_ "embed"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// stopping is the order in which a command is asked to end, and how long it has after each signal.
// The first is for a shell's traps and for `timeout`, which hands it on to what it started. After
// the last one the connection is closed, which ends the command's input and output.
//
// SSH has a request for signals, but OpenSSH refuses it to root, and gives it to others for one
// process group only, which `timeout` may have left. So a second session of the same connection
// signals the whole session of the first one. What runs as another user (sudo) gets no signal.
var stopping = []struct {
	signal ssh.Signal
	grace  time.Duration
}{
	{ssh.SIGTERM, 5 * time.Second},
	{ssh.SIGKILL, 2 * time.Second},
}

//go:embed stop.sh
var stopScript string

// stop ends the command on the other machine and returns when its session has ended.
func stop(session *ssh.Session, login *login, done <-chan error) {
	var sessions string
	for _, step := range stopping {
		// In the background: the connection itself may hang, and then it is closed below.
		signalled := make(chan string, 1)
		go func(ids string) {
			_ = session.Signal(step.signal)
			signalled <- signalSessions(login, step.signal, ids)
		}(sessions)
		grace := time.After(step.grace)
		for ended := false; !ended || signalled != nil; {
			select {
			case <-done:
				done, ended = nil, true
			case sessions = <-signalled:
				signalled = nil
			case <-grace:
				ended, signalled = true, nil
			}
		}
		if done == nil {
			return
		}
	}
	login.Close()
	<-done
}

// signalSessions signals the sessions with the given ids, or without any those of the connection,
// and returns their ids. On a machine that cannot do that it returns nothing.
func signalSessions(login *login, signal ssh.Signal, ids string) string {
	session, err := login.NewSession()
	if err != nil {
		return ids
	}
	defer func() { _ = session.Close() }()
	session.Stdin = strings.NewReader(stopScript)
	found, err := session.Output("exec /bin/sh -s -- " + string(signal) + " " + ids)
	if err != nil {
		return ids
	}
	return strings.Join(strings.Fields(string(found)), " ")
}
