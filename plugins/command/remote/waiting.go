package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
)

const (
	// reminder is how often a person is told that a login is still waited for: Pulumi shows the time of
	// the resource itself, and in a pipe each message is a line.
	reminder = 10 * time.Second
	// nearLimit is how many of the attempts that are left a person is told of, with the cause.
	nearLimit = 10
)

// waiting tells a person that a login is waited for. A machine that boots is no failure, so at first
// only the time is told: the cause is where it changes, and where few attempts are left.
type waiting struct {
	say         func(string)
	began, told time.Time
	cause       string
}

func newWaiting(ctx context.Context) *waiting {
	return &waiting{say: p.GetLogger(context.WithoutCancel(ctx)).InfoStatus, began: time.Now()}
}

// failed takes the error of an attempt and how many may follow; a negative number means all.
func (w *waiting) failed(err error, left int) {
	cause := shortly(err)
	isFirst, changed := w.told.IsZero(), cause != w.cause
	ends := left >= 0 && left < nearLimit
	if !isFirst && !changed && !ends && time.Since(w.told) < reminder {
		return
	}
	w.told, w.cause = time.Now(), cause
	text := fmt.Sprintf("boots, no SSH yet (%s)", w.elapsed())
	if !errors.As(err, new(*unreachableError)) {
		text = fmt.Sprintf("no login yet (%s)", w.elapsed())
	}
	switch {
	case ends:
		text += fmt.Sprintf(": %s, tries left: %d", cause, left)
	case changed && !isFirst:
		text += ": " + cause
	}
	w.say(text)
}

// ended takes the place of what was told: the command may write nothing, and a message stays.
func (w *waiting) ended() {
	if !w.told.IsZero() {
		w.say("logged in after " + w.elapsed())
	}
}

func (w *waiting) elapsed() string { return fmt.Sprintf("%.0f s", time.Since(w.began).Seconds()) }

// unreachableError says that there is no connection yet to shake hands on.
type unreachableError struct{ error }

func (e *unreachableError) Unwrap() error { return e.error }

// shortly names the cause of an error without the layers through which it came.
func shortly(err error) string {
	if code := syscall.Errno(0); errors.As(err, &code) {
		return code.Error()
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer"
	}
	return strings.TrimPrefix(err.Error(), "ssh: handshake failed: ")
}
