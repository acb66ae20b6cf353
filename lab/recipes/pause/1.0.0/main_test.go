package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	roleVariable = "PAUSE_TEST_CHILDREN"
	children     = 20
	patience     = 10 * time.Second
)

// TestMain makes this program its own subject: with the variable set it starts children that end,
// half of them before and half of them while it pauses, and waits for none of them itself.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "" {
		os.Exit(m.Run())
	}
	for i := range children {
		delay := "0"
		if i%2 == 1 {
			delay = "0.5"
		}
		if err := exec.Command("sleep", delay).Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
	}
	time.Sleep(100 * time.Millisecond) // the first half is dead before anyone listens
	fmt.Println("started")
	pause()
	os.Exit(0)
}

func startPause(t *testing.T) *exec.Cmd {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), roleVariable+"=1")
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	if line, err := bufio.NewReader(output).ReadString('\n'); line != "started\n" {
		t.Fatalf("the program did not start: %q, %v", line, err)
	}
	return command
}

func TestEndsWithZeroWhenAskedToStop(t *testing.T) {
	for _, request := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(request.String(), func(t *testing.T) {
			command := startPause(t)
			waitForChildren(t, command.Process.Pid, children-1) // it reaps, so it listens
			if err := command.Process.Signal(request); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- command.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("wanted exit code 0, got %v", err)
				}
			case <-time.After(patience):
				t.Fatal("still running long after the signal")
			}
		})
	}
}

func TestLeavesNoZombie(t *testing.T) {
	command := startPause(t)
	waitForChildren(t, command.Process.Pid, 0)
	if err := command.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("the program ended with its children: %v", err)
	}
}

// waitForChildren fails the test if the process keeps more children than allowed.
func waitForChildren(t *testing.T, pid, most int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		left := childrenOfAnyThread(t, pid)
		if len(left) <= most {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d children were never reaped: %v", len(left), left)
		}
	}
}

// childrenOfAnyThread lists children by thread, as the kernel does: Go may fork from any of them.
func childrenOfAnyThread(t *testing.T, pid int) []string {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if os.IsNotExist(err) {
			continue // a thread that ended; its children moved to another
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, strings.Fields(string(text))...)
	}
	return found
}
