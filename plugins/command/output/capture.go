// Package output keeps what a command writes: as outputs of the resource, line by line in the
// engine's log, and the end of it for the error of a command that fails.
package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	p "github.com/pulumi/pulumi-go-provider"
)

const (
	// A line in the engine's log is for reading; the whole line is in the resource's outputs.
	maxLogLine   = 16 << 10
	maxTailRead  = 64 << 10
	maxTailShown = 4 << 10
	maxTailLines = 20
)

// Capture collects the two streams of one run of a command.
type Capture struct {
	mu     sync.Mutex
	stdout stream
	stderr stream
	redact Redactor
}

// NewCapture makes a Capture that shows the given streams in the engine's log.
//
// The log outlives the command: its last words arrive although the context has just been cancelled.
func NewCapture(ctx context.Context, shown Streams) *Capture {
	c := &Capture{redact: redactorOf(ctx)}
	logger := p.GetLogger(context.WithoutCancel(ctx))
	c.stdout = stream{capture: c}
	c.stderr = stream{capture: c}
	if shown.Stdout {
		c.stdout.log = logger.InfoStatus
	}
	if shown.Stderr {
		c.stderr.log = logger.InfoStatus
	}
	return c
}

// Stdout takes the command's standard output.
func (c *Capture) Stdout() io.Writer { return &c.stdout }

// Stderr takes the command's standard error.
func (c *Capture) Stderr() io.Writer { return &c.stderr }

// Flush logs lines that were not ended by a newline. Call it once the command has ended.
func (c *Capture) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stdout.flush()
	c.stderr.flush()
}

// Texts returns both streams whole, without the final newline that most programs write.
func (c *Capture) Texts() (stdout, stderr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stdout.text(), c.stderr.text()
}

// Failure is the error of a command that failed: the summary and the last lines of both streams. They
// are kept apart because a reason on stderr must not be pushed out by much progress on stdout.
func (c *Capture) Failure(summary string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	message := summary
	for _, part := range []struct {
		name string
		text string
	}{{"stderr", c.stderr.lastLines()}, {"stdout", c.stdout.lastLines()}} {
		if part.text != "" {
			message += fmt.Sprintf("\n%s ends with:\n%s", part.name, part.text)
		}
	}
	if message == summary {
		message += "; it wrote no output"
	}
	return errors.New(message)
}

// stream is one of the two streams. There is no pipe and no reader with a line limit between the
// command and its log: a line of any length can neither block nor end the run.
type stream struct {
	capture *Capture
	whole   bytes.Buffer
	log     func(line string)
	pending []byte
}

func (s *stream) Write(text []byte) (int, error) {
	s.capture.mu.Lock()
	defer s.capture.mu.Unlock()
	s.whole.Write(text)
	if s.log != nil {
		rest := text
		for {
			line, after, ended := bytes.Cut(rest, []byte{'\n'})
			s.pending = append(s.pending, line...)
			if !ended {
				break
			}
			s.emit(s.pending)
			s.pending, rest = s.pending[:0], after
		}
	}
	return len(text), nil
}

// emit logs one line. Secrets go before it is cut: half of one would no longer be recognised.
func (s *stream) emit(text []byte) {
	line := s.capture.redact.Replace(strings.TrimSuffix(valid(text), "\r"))
	if len(line) > maxLogLine {
		line = strings.ToValidUTF8(line[:maxLogLine], "") + " ... (the rest of this line is not logged)"
	}
	s.log(line)
}

func (s *stream) flush() {
	if len(s.pending) > 0 {
		s.emit(s.pending)
		s.pending = nil
	}
}

func (s *stream) lastLines() string {
	end := s.whole.Bytes()
	cut := len(end) > maxTailRead
	if cut {
		end = end[len(end)-maxTailRead:]
	}
	text := strings.TrimRight(s.capture.redact.Replace(valid(end)), "\n")
	if lines := strings.Split(text, "\n"); len(lines) > maxTailLines {
		text, cut = strings.Join(lines[len(lines)-maxTailLines:], "\n"), true
	}
	if len(text) > maxTailShown {
		text, cut = strings.ToValidUTF8(text[len(text)-maxTailShown:], ""), true
	}
	if cut {
		return "... " + text
	}
	return text
}

func (s *stream) text() string {
	return strings.TrimSuffix(valid(s.whole.Bytes()), "\n")
}

// valid makes text that gRPC accepts: one byte that is not UTF-8 would otherwise fail a command
// after it has run.
func valid(text []byte) string { return strings.ToValidUTF8(string(text), "\uFFFD") }
