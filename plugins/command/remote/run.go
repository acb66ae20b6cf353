package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"golang.org/x/crypto/ssh"

	"hardway.invalid/plugins/pulumi-resource-command/output"
)

// run runs command, if there is one, and keeps what it wrote in out.
func (out *CommandOutputs) run(ctx context.Context, command *string) error {
	if command == nil {
		return nil
	}
	what := "the command on " + out.Connection.Endpoint.String()
	started := time.Now()
	login, err := out.Connection.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", output.Stopped(ctx, what, started), err)
		}
		return err
	}
	defer login.Close()

	capture := output.NewCapture(ctx, output.Logged(out.Logging))
	session, err := out.prepare(ctx, login)
	if err != nil {
		if ctx.Err() != nil {
			return output.Stopped(ctx, what, started)
		}
		return err
	}
	session.Stdout, session.Stderr = capture.Stdout(), capture.Stderr()
	done := make(chan error, 1)
	go func() { done <- execute(session, *command, out.Stdin) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		stopped := output.Stopped(ctx, what, started)
		stop(session, login, done)
		capture.Flush()
		return capture.Failure(stopped.Error())
	}
	capture.Flush()
	if err != nil {
		return capture.Failure(what + " " + ending(err))
	}
	out.Stdout, out.Stderr = capture.Texts()
	return nil
}

// prepare opens a session with the command's environment. Until a command runs there is nothing to
// end gently, so the end of ctx just closes the connection.
func (out *CommandOutputs) prepare(ctx context.Context, login *login) (*ssh.Session, error) {
	release := context.AfterFunc(ctx, login.Close)
	defer release()
	session, err := login.NewSession()
	if err != nil {
		return nil, fmt.Errorf("%s opens no session: %w", &out.Connection.Endpoint, err)
	}
	return session, out.setEnvironment(ctx, session)
}

// execute runs the command and returns when it has ended.
func execute(session *ssh.Session, command string, text *string) error {
	stdin, err := session.StdinPipe()
	if err != nil {
		return err
	}
	if err := session.Start(command); err != nil {
		// The library's error quotes the whole command.
		return errors.New("the machine refused to run it, or closed the connection")
	}
	go func() {
		// A command need not read its input to the end, so an error here says nothing.
		if text != nil {
			_, _ = io.WriteString(stdin, *text)
		}
		_ = stdin.Close()
	}()
	return session.Wait()
}

// setEnvironment fails where the server refuses a variable of the program, and only warns where it
// refuses one of the previous outputs, which few programs read. Messages carry names, never values.
func (out *CommandOutputs) setEnvironment(ctx context.Context, session *ssh.Session) error {
	refused := func(name string) string {
		return fmt.Sprintf("the SSH server %s refuses the environment variable %s: name it in AcceptEnv of its "+
			"sshd_config, or set it within the command", &out.Connection.Endpoint, name)
	}
	for _, name := range slices.Sorted(maps.Keys(out.Environment)) {
		if err := session.Setenv(name, out.Environment[name]); err != nil {
			return errors.New(refused(name))
		}
	}
	previous, warnings := output.Previous(out.AddPreviousOutputInEnv, out.Stdout, out.Stderr)
	for _, variable := range previous {
		if err := session.Setenv(variable.Name, variable.Value); err != nil {
			warnings = append(warnings, refused(variable.Name)+", or set addPreviousOutputInEnv to false")
		}
	}
	for _, warning := range warnings {
		p.GetLogger(ctx).Warning(warning)
	}
	return nil
}

// ending puts the way a command ended into words.
func ending(err error) string {
	if exit := (*ssh.ExitError)(nil); errors.As(err, &exit) {
		if exit.Signal() != "" {
			return "was ended by the signal " + exit.Signal()
		}
		return fmt.Sprintf("failed with exit status %d", exit.ExitStatus())
	}
	if missing := (*ssh.ExitMissingError)(nil); errors.As(err, &missing) {
		return "ended without an exit status: the connection was lost, or the machine went down"
	}
	return fmt.Sprintf("failed: %s", err)
}
