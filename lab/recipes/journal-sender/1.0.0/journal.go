package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	journalctl = "/usr/bin/journalctl"
	// longestLine is more than an entry has whose message is not cut; a longer one is skipped.
	longestLine = 1 << 20
	// longestMessage is how much of a message is sent. JSON may make six times as much of it, and
	// VictoriaLogs skips lines of more than 256 KiB.
	longestMessage = 32 << 10
)

// fields are all that is asked for besides the cursor and the time.
const fields = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,UNIT,_PID"

var levels = map[string]string{
	"0": "emerg", "1": "alert", "2": "critical", "3": "error",
	"4": "warning", "5": "notice", "6": "info", "7": "debug",
}

// entry is one entry of the journal as VictoriaLogs takes it.
type entry struct {
	cursor string
	time   time.Time
	line   []byte
}

// follow starts journalctl and passes on what it prints, until it ends.
func follow(ctx context.Context, after, since string, entries chan<- entry) error {
	arguments := []string{
		"--follow", "--no-tail", "--quiet", "--all", "--output=json", "--output-fields=" + fields,
	}
	if after == "" {
		arguments = append(arguments, "--since="+since)
	} else {
		arguments = append(arguments, "--after-cursor="+after)
	}
	command, err := ofMachine(ctx, journalctl, arguments)
	if err != nil {
		return err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	err = pass(ctx, output, entries)
	if err != nil {
		command.Cancel()
	}
	return errors.Join(err, command.Wait())
}

// ofMachine is a program of the machine, whose /usr is this pod's as well. Its loader and its libraries
// are named by their paths there, since the pod has no /lib.
func ofMachine(ctx context.Context, program string, arguments []string) (*exec.Cmd, error) {
	loaders, _ := filepath.Glob("/usr/lib/*-linux-gnu/ld-linux-*.so.*")
	if len(loaders) == 0 {
		return nil, errors.New("the machine's /usr/lib has no loader of programs")
	}
	folder := filepath.Dir(loaders[0])
	libraries := strings.Join([]string{folder, folder + "/systemd", "/usr/lib/systemd"}, ":")
	own := append([]string{"--library-path", libraries, program}, arguments...)
	command := exec.CommandContext(ctx, loaders[0], own...)
	command.Stderr = os.Stderr
	// It ends with this process, however that ends.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command, nil
}

// pass reads lines of JSON until there are no more.
func pass(ctx context.Context, output io.Reader, entries chan<- entry) error {
	reader := bufio.NewReaderSize(output, 64<<10)
	for {
		line, err := readLine(reader)
		if errors.Is(err, io.EOF) {
			return errors.New("journalctl ended")
		}
		if err != nil {
			return err
		}
		next, err := converted(line)
		if err != nil {
			say("an entry is left out (%v)", err)
			continue
		}
		select {
		case entries <- next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readLine gives the next line; of one that is too long only the beginning.
func readLine(reader *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		if len(line) < longestLine {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// converted makes of a line of journalctl's the one that is sent.
func converted(line []byte) (entry, error) {
	if len(line) >= longestLine {
		return entry{}, fmt.Errorf("it has more than %d KiB", longestLine>>10)
	}
	var read map[string]json.RawMessage
	if err := json.Unmarshal(line, &read); err != nil {
		return entry{}, err
	}
	microseconds, err := strconv.ParseInt(text(read["__REALTIME_TIMESTAMP"]), 10, 64)
	if err != nil {
		return entry{}, err
	}
	at, message := time.UnixMicro(microseconds), text(read["MESSAGE"])
	if len(message) > longestMessage {
		message = message[:longestMessage]
	}
	unit, pid := text(read["_SYSTEMD_UNIT"]), text(read["_PID"])
	// What systemd itself says of a unit is found with that unit.
	if about := text(read["UNIT"]); about != "" && pid == "1" {
		unit = about
	}
	row := map[string]string{
		"_time": at.UTC().Format("2006-01-02T15:04:05.000000Z"),
		"_msg":  message,
		"unit":  unit, "pid": pid,
		"program": text(read["SYSLOG_IDENTIFIER"]),
		"level":   levels[text(read["PRIORITY"])],
	}
	for name, value := range row {
		if value == "" {
			delete(row, name)
		}
	}
	whole, err := json.Marshal(row)
	return entry{cursor: text(read["__CURSOR"]), time: at, line: whole}, err
}

// text is a field's value: journalctl prints a text, the bytes of what is no text, or a list of several
// values, of which the first one counts.
func text(value json.RawMessage) string {
	var plain string
	if json.Unmarshal(value, &plain) == nil {
		return plain
	}
	var bytes []int
	if json.Unmarshal(value, &bytes) == nil {
		raw := make([]byte, 0, len(bytes))
		for _, number := range bytes {
			raw = append(raw, byte(number))
		}
		return string(raw)
	}
	var several []json.RawMessage
	if json.Unmarshal(value, &several) == nil && len(several) > 0 {
		return text(several[0])
	}
	return ""
}
