// Command pause is the first process of a pod's sandbox: it keeps the pod's namespaces alive, buries
// the processes that lost their parent, and exits with 0 on SIGINT or SIGTERM.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println("pause", version)
		return
	}
	pause()
}

// pause returns when the process is asked to stop, and reaps children until then.
func pause() {
	// Two channels: many dying children must not push a request to stop out of the queue.
	stop, child := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(child, syscall.SIGCHLD)
	reap() // those that died before anyone listened
	for {
		select {
		case <-stop:
			return
		case <-child:
			reap()
		}
	}
}

// reap waits for every child that has ended: one SIGCHLD can stand for several of them.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}
