package main

import (
	"context"
	"os"
	"time"
)

// untilOrphaned is done once the process that started this one is gone: an engine that was killed
// tells its plugins nothing, and they would stay for ever.
func untilOrphaned(every time.Duration) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	parent := os.Getppid()
	go func() {
		for os.Getppid() == parent {
			time.Sleep(every)
		}
		cancel()
	}()
	return ctx
}
