// Command journal-sender sends the entries of a machine's journal to VictoriaLogs, in a pod on that machine.
//
// The machine's own journalctl reads the journal, since it knows the form in which its journald writes. An
// entry counts as sent once VictoriaLogs has taken it; then its cursor is written to a file, from which the
// next start goes on. While VictoriaLogs takes nothing, nothing more is read: entries wait in the journal.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set by the linker.
var version = "unknown"

const (
	batchEntries = 500
	batchBytes   = 512 << 10
	// batchDelay is how long an entry waits for others that are sent with it.
	batchDelay = 2 * time.Second
	// firstReport is how long after journalctl's start the first report follows.
	firstReport = 5 * time.Second
	// restartDelay is how long after its end journalctl is started again.
	restartDelay = 5 * time.Second
	longestRetry = 30 * time.Second
)

func main() {
	var s sender
	showVersion := flag.Bool("version", false, "print the version and exit")
	to := flag.String("to", "", "the URL of VictoriaLogs, without a path")
	flag.StringVar(&s.machine, "machine", "", "the name under which the entries are found")
	flag.StringVar(&s.cursor.path, "cursor", "", "the file that says which entry was sent last")
	flag.StringVar(&s.since, "since", "-7d", "how far back the first start reads, as journalctl takes it")
	flag.DurationVar(&s.every, "every", 5*time.Minute, "the time between two reports")
	flag.Parse()
	if *showVersion {
		fmt.Println("journal-sender", version)
		return
	}
	base, err := url.Parse(*to)
	if err != nil || base.Host == "" || s.machine == "" || s.cursor.path == "" {
		fmt.Fprintln(os.Stderr, "journal-sender: give -to, -machine and -cursor; -help explains them")
		os.Exit(2)
	}
	s.base = base
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	for ctx.Err() == nil {
		if err := s.run(ctx); err != nil && ctx.Err() == nil {
			say("the journal is read again in %s (%v)", restartDelay, err)
		}
		wait(ctx, restartDelay)
	}
}

// sender is what goes from one machine's journal to one VictoriaLogs.
type sender struct {
	base    *url.URL
	machine string
	since   string
	every   time.Duration
	cursor  cursorFile
	// sent counts the entries since the start, and newest is the time of the last one.
	sent   int
	newest time.Time
}

// run reads and sends until journalctl ends, which it does only where something is wrong.
func (s *sender) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	after, err := s.cursor.read()
	if err != nil {
		return err
	}
	// A short queue: what is not sent yet stays in the journal.
	entries, ended := make(chan entry, 16), make(chan error, 1)
	go func() {
		ended <- follow(ctx, after, s.since, entries)
		close(entries)
	}()
	if err := s.deliver(ctx, entries); err != nil {
		return err
	}
	return <-ended
}

// deliver sends entries in batches until there are no more, and reports now and then that it does.
func (s *sender) deliver(ctx context.Context, entries <-chan entry) error {
	var batch batch
	due := time.NewTimer(0)
	<-due.C
	report := time.NewTimer(firstReport)
	defer due.Stop()
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case next, more := <-entries:
			if !more {
				return s.send(ctx, &batch)
			}
			if batch.count == 0 {
				due.Reset(batchDelay)
			}
			batch.add(next)
			if batch.isFull() {
				if err := s.send(ctx, &batch); err != nil {
					return err
				}
			}
		case <-due.C:
			if err := s.send(ctx, &batch); err != nil {
				return err
			}
		case <-report.C:
			// An empty batch as well: whether VictoriaLogs answers shows in no other way.
			if err := s.exchange(ctx, &batch); err != nil {
				return err
			}
			say("VictoriaLogs has the journal: %d entries sent%s", s.sent, last(s.newest))
			report.Reset(s.every)
		}
	}
}

func last(newest time.Time) string {
	if newest.IsZero() {
		return ""
	}
	return ", the last of " + newest.UTC().Format(time.RFC3339)
}

// batch is a part of the journal on its way.
type batch struct {
	lines  bytes.Buffer
	count  int
	cursor string
	newest time.Time
}

func (b *batch) add(next entry) {
	b.lines.Write(next.line)
	b.lines.WriteByte('\n')
	b.count++
	b.cursor, b.newest = next.cursor, next.time
}

func (b *batch) isFull() bool {
	return b.count >= batchEntries || b.lines.Len() >= batchBytes
}

func (s *sender) send(ctx context.Context, b *batch) error {
	if b.count == 0 {
		return nil
	}
	return s.exchange(ctx, b)
}

// exchange sends a batch until VictoriaLogs has taken it, and empties it.
func (s *sender) exchange(ctx context.Context, b *batch) error {
	for delay, failures := time.Second, 0; ; delay = min(2*delay, longestRetry) {
		err := s.post(ctx, b.lines.Bytes())
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Once at first, and then every few minutes.
		if failures++; failures == 1 || failures%10 == 0 {
			say("VictoriaLogs takes no entries; they wait in the journal (%v)", err)
		}
		wait(ctx, delay)
	}
	if b.count > 0 {
		if err := s.cursor.write(b.cursor); err != nil {
			return err
		}
		s.sent, s.newest = s.sent+b.count, b.newest
	}
	*b = batch{}
	return nil
}

var client = &http.Client{
	Timeout: time.Minute,
	// VictoriaLogs is reached directly, whatever the environment says.
	Transport: &http.Transport{MaxIdleConns: 1, IdleConnTimeout: time.Minute},
}

// post gives lines of JSON to VictoriaLogs.
func (s *sender) post(ctx context.Context, lines []byte) error {
	query := url.Values{"_stream_fields": {"machine,program"}, "extra_fields": {"machine=" + s.machine}}
	target := s.base.JoinPath("insert/jsonline")
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(lines))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/stream+json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1000))
	if err == nil && answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(text))
	}
	return err
}

func wait(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func say(format string, values ...any) {
	fmt.Printf("journal-sender: "+format+"\n", values...)
}

// cursorFile says which entry was sent last.
type cursorFile struct {
	path string
}

// read gives the cursor, and nothing where none was written wholly.
func (c cursorFile) read() (string, error) {
	content, err := os.ReadFile(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	whole, _, ended := bytes.Cut(content, []byte("\n"))
	if !ended || !bytes.HasPrefix(whole, []byte("s=")) {
		return "", err
	}
	return string(whole), err
}

// write replaces the file at once, so that a loss of power leaves the old cursor or the new one.
func (c cursorFile) write(cursor string) error {
	file, err := os.OpenFile(c.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(cursor + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(c.path+".new", c.path)
}
