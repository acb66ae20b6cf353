package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// taking is a server that refuses some requests and keeps the lines of all others.
type taking struct {
	*httptest.Server
	mutex   sync.Mutex
	refuses int
	lines   []string
	queries []url.Values
}

func newTaking(t *testing.T, refuses int) *taking {
	server := &taking{refuses: refuses}
	server.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server.mutex.Lock()
		defer server.mutex.Unlock()
		if server.refuses > 0 {
			server.refuses--
			http.Error(w, "the disk is full", http.StatusInternalServerError)
			return
		}
		body, _ := io.ReadAll(r.Body)
		server.lines = append(server.lines, strings.Fields(string(body))...)
		server.queries = append(server.queries, r.URL.Query())
	}))
	t.Cleanup(server.Close)
	return server
}

func sending(t *testing.T, server *taking) *sender {
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	cursor := cursorFile{filepath.Join(t.TempDir(), "cursor")}
	return &sender{base: base, machine: "m1", cursor: cursor, every: time.Hour}
}

func given(cursors ...string) <-chan entry {
	entries := make(chan entry, len(cursors))
	for _, cursor := range cursors {
		entries <- entry{cursor: cursor, line: []byte(`"` + cursor + `"`)}
	}
	close(entries)
	return entries
}

func TestSendsInOrderAndKeepsTheLastCursor(t *testing.T) {
	server := newTaking(t, 0)
	s := sending(t, server)
	cursors := make([]string, batchEntries+2)
	for number := range cursors {
		cursors[number] = "s=" + strings.Repeat("a", number%7+1)
	}
	if err := s.deliver(context.Background(), given(cursors...)); err != nil {
		t.Fatal(err)
	}
	if len(server.lines) != len(cursors) || len(server.queries) != 2 {
		t.Fatalf("wanted %d lines in 2 requests, got %d in %d", len(cursors), len(server.lines), len(server.queries))
	}
	for number, cursor := range cursors {
		if server.lines[number] != `"`+cursor+`"` {
			t.Fatalf("line %d is %s", number, server.lines[number])
		}
	}
	if machine := server.queries[0].Get("extra_fields"); machine != "machine=m1" {
		t.Errorf("the machine is %q", machine)
	}
	if kept, err := s.cursor.read(); err != nil || kept != cursors[len(cursors)-1] {
		t.Errorf("the cursor is %q, %v", kept, err)
	}
}

func TestWhatIsRefusedIsSentAgainAndHasNoCursorBefore(t *testing.T) {
	server := newTaking(t, 2)
	s := sending(t, server)
	if err := s.cursor.write("s=before"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := s.deliver(ctx, given("s=lost")); err == nil {
		t.Error("it was cut off and says nothing")
	}
	if kept, _ := s.cursor.read(); kept != "s=before" {
		t.Fatalf("the cursor is %q", kept)
	}
	if err := s.deliver(context.Background(), given("s=lost")); err != nil {
		t.Fatal(err)
	}
	if kept, _ := s.cursor.read(); kept != "s=lost" || len(server.lines) != 1 {
		t.Errorf("the cursor is %q, the lines are %v", kept, server.lines)
	}
}

func TestACursorThatWasCutOffIsNone(t *testing.T) {
	cursor := cursorFile{filepath.Join(t.TempDir(), "cursor")}
	for _, content := range []string{"", "s=cut", "something\n", "\n"} {
		if err := os.WriteFile(cursor.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if read, err := cursor.read(); read != "" || err != nil {
			t.Errorf("%q gives %q, %v", content, read, err)
		}
	}
}

func TestAnEntryHasTheFieldsOfASearch(t *testing.T) {
	const start = `{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1700000000000001"`
	for line, wanted := range map[string]map[string]string{
		`,"MESSAGE":"hello","PRIORITY":"3","SYSLOG_IDENTIFIER":"etcd","_SYSTEMD_UNIT":"etcd.service","_PID":"7"}`: {
			"_msg": "hello", "level": "error", "program": "etcd", "unit": "etcd.service", "pid": "7"},
		`,"MESSAGE":"Started","_PID":"1","_SYSTEMD_UNIT":"init.scope","UNIT":"etcd.service"}`: {
			"_msg": "Started", "pid": "1", "unit": "etcd.service"},
		`,"MESSAGE":"not systemd","_PID":"9","_SYSTEMD_UNIT":"a.service","UNIT":"etcd.service"}`: {
			"_msg": "not systemd", "pid": "9", "unit": "a.service"},
		`,"MESSAGE":[104,105,10],"SYSLOG_IDENTIFIER":["kernel","other"]}`: {
			"_msg": "hi\n", "program": "kernel"},
	} {
		next, err := converted([]byte(start + line))
		if err != nil {
			t.Fatal(err)
		}
		var row map[string]string
		if err := json.Unmarshal(next.line, &row); err != nil {
			t.Fatal(err)
		}
		wanted["_time"] = "2023-11-14T22:13:20.000001Z"
		if len(row) != len(wanted) {
			t.Errorf("wanted %v, got %v", wanted, row)
		}
		for name, value := range wanted {
			if row[name] != value {
				t.Errorf("%s is %q, not %q", name, row[name], value)
			}
		}
		if next.cursor != "s=1" {
			t.Errorf("the cursor is %q", next.cursor)
		}
	}
}

func TestWhatIsTooLongOrNoEntryHoldsNothingUp(t *testing.T) {
	one := func(message string) string {
		return `{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1","MESSAGE":"` + message + `"}` + "\n"
	}
	output := one("first") + one(strings.Repeat("x", 3*longestLine)) + "no JSON\n" +
		one(strings.Repeat("y", 2*longestMessage)) + one("last")
	entries := make(chan entry, 9)
	if err := pass(context.Background(), strings.NewReader(output), entries); err == nil {
		t.Error("the end is no failure")
	}
	close(entries)
	var lengths []int
	for next := range entries {
		var row map[string]string
		if err := json.Unmarshal(next.line, &row); err != nil {
			t.Fatal(err)
		}
		lengths = append(lengths, len(row["_msg"]))
	}
	if len(lengths) != 3 || lengths[0] != 5 || lengths[1] != longestMessage || lengths[2] != 4 {
		t.Errorf("the messages have %v bytes", lengths)
	}
}
