package output

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// StoppedError says that work ended before its time because the engine asked for it.
type StoppedError struct {
	what  string
	after time.Duration
	cause error
}

// Stopped is the error of work that was given up because ctx ended: by the resource's custom timeout
// or by a cancelled update.
func Stopped(ctx context.Context, what string, started time.Time) error {
	return &StoppedError{what: what, after: time.Since(started), cause: ctx.Err()}
}

func (e *StoppedError) Error() string {
	after := e.after.Round(100 * time.Millisecond)
	if errors.Is(e.cause, context.DeadlineExceeded) {
		return fmt.Sprintf("%s was stopped after %s: the resource's custom timeout has passed; "+
			"give the resource a longer one if the work needs it", e.what, after)
	}
	return fmt.Sprintf("%s was stopped after %s: the update was cancelled", e.what, after)
}

func (e *StoppedError) Unwrap() error { return e.cause }
