package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	p "github.com/pulumi/pulumi-go-provider"

	"hardway.invalid/plugins/pulumi-resource-command/output"
)

// lastWait is how long a command that was asked to end may take, and how long the output of one that
// has ended is still waited for: a daemon that it started may hold the output open for ever.
var lastWait = 3 * time.Second

var defaultInterpreter = []string{"/bin/sh", "-c"}

// run runs command, if there is one, and keeps what it left behind in out.
func run(ctx context.Context, command *string, in *BaseInputs, out *BaseOutputs) error {
	if command == nil {
		return nil
	}
	const what = "the local command"
	started := time.Now()
	capture := output.NewCapture(ctx, output.Logged(in.Logging))
	process, err := prepare(ctx, *command, in, out)
	if err != nil {
		return fmt.Errorf("%s did not start: %w", what, err)
	}
	process.Stdout, process.Stderr = capture.Stdout(), capture.Stderr()
	var stopped error
	process.Cancel = func() error {
		stopped = output.Stopped(ctx, what, started)
		return syscall.Kill(-process.Process.Pid, syscall.SIGTERM)
	}
	if err := process.Start(); err != nil {
		if ctx.Err() != nil {
			return output.Stopped(ctx, what, started)
		}
		return fmt.Errorf("%s did not start: %w", what, err)
	}
	err = process.Wait()
	capture.Flush()
	if err != nil && stopped != nil {
		// What ignored the first signal, or outlived its parent, ends now. The group is empty otherwise.
		_ = syscall.Kill(-process.Process.Pid, syscall.SIGKILL)
		return capture.Failure(stopped.Error())
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return capture.Failure(what + " " + ending(err))
	}
	if err := collect(process.Dir, in, out); err != nil {
		return err
	}
	out.Stdout, out.Stderr = capture.Texts()
	return nil
}

// prepare makes the process, in a process group of its own so that it can be ended with all that it
// started.
func prepare(ctx context.Context, command string, in *BaseInputs, out *BaseOutputs) (*exec.Cmd, error) {
	words := defaultInterpreter
	if in.Interpreter != nil && len(*in.Interpreter) > 0 {
		words = *in.Interpreter
	}
	words = append(slices.Clone(words), command)
	process := exec.CommandContext(ctx, words[0], words[1:]...)
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	process.WaitDelay = lastWait
	process.Env = environment(ctx, in, out)
	if in.Stdin != nil && *in.Stdin != "" {
		process.Stdin = strings.NewReader(*in.Stdin)
	}
	if in.Dir != nil {
		process.Dir = *in.Dir
		// Otherwise the error would name the interpreter as what is missing.
		_, err := os.Stat(process.Dir)
		return process, err
	}
	var err error
	process.Dir, err = os.Getwd()
	return process, err
}

func environment(ctx context.Context, in *BaseInputs, out *BaseOutputs) []string {
	variables := os.Environ()
	if in.Environment != nil {
		for _, name := range slices.Sorted(maps.Keys(*in.Environment)) {
			variables = append(variables, name+"="+(*in.Environment)[name])
		}
	}
	previous, warnings := output.Previous(in.AddPreviousOutputInEnv, out.Stdout, out.Stderr)
	for _, variable := range previous {
		variables = append(variables, variable.Name+"="+variable.Value)
	}
	for _, warning := range warnings {
		p.GetLogger(ctx).Warning(warning)
	}
	return variables
}

// ending puts the way a command ended into words.
func ending(err error) string {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return fmt.Sprintf("was ended by the signal %s", status.Signal())
		}
		return fmt.Sprintf("failed with exit status %d", exit.ExitCode())
	}
	return fmt.Sprintf("failed: %s", err)
}
