package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

func TestRemoteCommandLivesAsThePublishedOneDoes(t *testing.T) {
	t.Parallel()
	e, server, did := newEngine(t), startSSH(t), inTemp(t, "did")
	inputs := func(changes values) values {
		result := values{
			"connection": server.connection(), "create": appending("create", did), "delete": appending("delete", did),
		}
		for key, value := range changes {
			result[key] = value
		}
		return result
	}
	step := e.mustCreate(remoteCommand, inputs(nil))
	mustEqual(t, "after create", lines(t, did), "create")
	if !strings.HasPrefix(step.id, "step") || len(step.id) != len("step")+8 {
		t.Errorf("the id %q is not the name and eight random characters", step.id)
	}

	mustEqual(t, "diff of the same inputs", e.diff(step, inputs(nil)).GetChanges(), pulumirpc.DiffResponse_DIFF_NONE)
	withStdin := inputs(values{"stdin": "new"})
	mustEqual(t, "diff of a changed input", e.diff(step, withStdin).GetChanges(), pulumirpc.DiffResponse_DIFF_SOME)
	mustEqual(t, "replaces", len(e.diff(step, withStdin).GetReplaces()), 0)
	if err := e.update(step, withStdin); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "an update without update", lines(t, did), "create create")
	if err := e.update(step, inputs(values{"update": appending("update", did)})); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "an update with update", lines(t, did), "create create update")

	withTriggers := e.diff(step, inputs(values{"update": appending("update", did), "triggers": []any{"a"}}))
	mustEqual(t, "replaced by", strings.Join(withTriggers.GetReplaces(), " "), "triggers")

	if err := e.delete(step); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "after delete", lines(t, did), "create create update delete")
}

func TestRemoteDeleteUsesCommandAndConnectionOfTheState(t *testing.T) {
	t.Parallel()
	e, server, other, did := newEngine(t), startSSH(t), startSSH(t), inTemp(t, "did")
	step := e.mustCreate(remoteCommand, values{
		"connection": server.connection(), "create": "true", "delete": appending("first", did),
	})
	failing := values{"connection": other.connection(), "create": "exit 1", "delete": appending("second", did)}
	mustFail(t, e.update(step, failing))
	if err := e.delete(step); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "what delete did", lines(t, did), "first")
	mustEqual(t, "logins to the connection of the failed update", other.logins.Load(), 1)
	mustEqual(t, "logins to the stored connection", server.logins.Load(), 2)

	failed := e.mustCreate(remoteCommand, values{"connection": server.connection(), "delete": "exit 7"})
	mustFail(t, e.delete(failed), "exit status 7")
}

func TestRemoteCommandWithoutCommandsNeverConnects(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	step := e.mustCreate(remoteCommand, values{"connection": server.connection()})
	mustEqual(t, "stdout", e.output(step, "stdout"), "")
	if err := e.update(step, values{"connection": server.connection(), "stdin": "x"}); err != nil {
		t.Fatal(err)
	}
	if err := e.delete(step); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "connections", server.accepted.Load(), 0)
}

func TestRemotePreviewNeverConnects(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	inputs := values{"connection": server.connection(), "create": "echo ran"}
	e.mustCreate(remoteCommand, inputs, inPreview)
	mustEqual(t, "connections after a preview of create", server.accepted.Load(), 0)
	step := e.mustCreate(remoteCommand, inputs)
	inputs["stdin"] = "x"
	if err := e.update(step, inputs, inPreview); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "connections after a preview of update", server.accepted.Load(), 1)
}

func TestRemoteOutputsAreWhatWasWritten(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	step := e.mustCreate(remoteCommand, values{
		"connection": server.connection(), "create": `printf 'one\n\ntwo\n\n'; printf 'err\n' >&2; printf '\377' >&2`,
	})
	mustEqual(t, "stdout", e.output(step, "stdout"), "one\n\ntwo\n")
	mustEqual(t, "stderr, of which one byte is no text", e.output(step, "stderr"), "err\n\uFFFD")
}

func TestFailingRemoteCommandTellsStatusAndLastLinesOnly(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	script := "for i in $(seq 1 5000); do echo line-$i; done; echo the reason >&2; exit 42 # a mark of the script"
	_, err := e.create(remoteCommand, values{"connection": server.connection(), "create": script, "logging": "none"})
	message := mustFail(t, err, "exit status 42", "127.0.0.1", "the reason", "line-5000", "line-4990", "stderr ends with", "stdout ends with")
	mustNotContain(t, message, "line-4970", "a mark of the script", "seq 1")

	_, err = e.create(remoteCommand, values{
		"connection": server.connection(), "create": "head -c 3000000 /dev/zero | tr '\\0' x; exit 3", "logging": "none",
	})
	if message = mustFail(t, err, "exit status 3"); len(message) > 5_000 {
		t.Errorf("the message is %d bytes long", len(message))
	}
	_, err = e.create(remoteCommand, values{"connection": server.connection(), "create": "exit 4"})
	mustFail(t, err, "exit status 4", "no output")
	_, err = e.create(remoteCommand, values{"connection": server.connection(), "create": "kill -KILL $$"})
	mustFail(t, err, "signal KILL")
}

func TestLoggingShowsTheChosenStreamsAndSurvivesLongLines(t *testing.T) {
	t.Parallel()
	server := startSSH(t)
	const long = 1_500_000
	script := fmt.Sprintf("echo on-stdout; echo on-stderr >&2; "+
		"head -c %d /dev/zero | tr '\\0' o; echo; head -c %d /dev/zero | tr '\\0' e >&2; echo >&2; echo last-word", long, long)
	for logging, shown := range map[string]struct{ stdout, stderr bool }{
		"": {true, true}, "stdoutAndStderr": {true, true}, "stdout": {true, false}, "stderr": {false, true}, "none": {},
	} {
		t.Run("logging "+logging, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t)
			inputs := values{"connection": server.connection(), "create": script}
			if logging != "" {
				inputs["logging"] = logging
			}
			step := e.mustCreate(remoteCommand, inputs)
			mustEqual(t, "length of stdout", len(e.output(step, "stdout")), len("on-stdout\n\nlast-word")+long)
			mustEqual(t, "length of stderr", len(e.output(step, "stderr")), len("on-stderr\n")+long)
			log := e.info()
			mustEqual(t, "stdout is logged", strings.Contains(log, "on-stdout"), shown.stdout)
			mustEqual(t, "the line after the long one is logged", strings.Contains(log, "last-word"), shown.stdout)
			mustEqual(t, "the long line's start is logged", strings.Contains(log, "oooo"), shown.stdout)
			mustEqual(t, "stderr is logged", strings.Contains(log, "on-stderr"), shown.stderr)
			if len(log) > 100_000 {
				t.Errorf("%d bytes are logged", len(log))
			}
		})
	}
}

func TestLogArrivesLineByLineWhileTheCommandRuns(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	proceed := inTemp(t, "proceed")
	ended := make(chan error, 1)
	go func() {
		_, err := e.create(remoteCommand, values{
			"connection": server.connection(),
			"create":     "echo first; until test -e " + proceed + "; do sleep 0.02; done; printf unfinished",
		})
		ended <- err
	}()
	eventually(t, "the first line is logged", func() bool { return strings.Contains(e.info(), "first") })
	if err := os.WriteFile(proceed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	mustContain(t, e.info(), "unfinished")
}

func TestRemoteEnvironmentNeedsAServerThatAcceptsIt(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t, func(s *sshServer) { s.acceptEnv = []string{"COLOUR"} })
	step := e.mustCreate(remoteCommand, values{
		"connection": server.connection(), "create": "echo $COLOUR", "environment": values{"COLOUR": "blue"},
	})
	mustEqual(t, "stdout", e.output(step, "stdout"), "blue")
	_, err := e.create(remoteCommand, values{
		"connection": server.connection(), "create": "echo $SHAPE", "environment": values{"SHAPE": "a-round-value"},
	})
	mustNotContain(t, mustFail(t, err, "SHAPE", "AcceptEnv", "127.0.0.1"), "a-round-value")
	server.waitUntilUnused()
}

func TestStdinIsReadAndNeedNotBeRead(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	script := "echo from the script\nread -r line <<< 'x' && echo $line"
	step := e.mustCreate(remoteCommand, values{
		"connection": server.connection(), "create": "bash -euo pipefail -s", "stdin": script,
	})
	mustEqual(t, "stdout", e.output(step, "stdout"), "from the script\nx")
	big := strings.Repeat("0123456789abcdef", 1<<18)
	step = e.mustCreate(remoteCommand, values{"connection": server.connection(), "create": "wc -c", "stdin": big})
	mustEqual(t, "bytes read", strings.TrimSpace(e.output(step, "stdout")), fmt.Sprint(len(big)))
	e.mustCreate(remoteCommand, values{"connection": server.connection(), "create": "true", "stdin": big})
	e.mustCreate(remoteCommand, values{"connection": server.connection(), "create": "cat"})
}

func TestPreviousOutputsAreInTheEnvironmentUnlessUnwanted(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t, func(s *sshServer) {
		s.acceptEnv = []string{"PULUMI_COMMAND_STDOUT", "PULUMI_COMMAND_STDERR"}
	})
	kept := inTemp(t, "kept")
	show := `echo "[$PULUMI_COMMAND_STDOUT|$PULUMI_COMMAND_STDERR]"`
	inputs := values{
		"connection": server.connection(), "create": "echo out; echo err >&2", "update": show,
		"delete": show + " > " + kept,
	}
	step := e.mustCreate(remoteCommand, inputs)
	inputs["stdin"] = "1"
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "stdout", e.output(step, "stdout"), "[out|err]")
	inputs["addPreviousOutputInEnv"] = false
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "stdout where it is unwanted", e.output(step, "stdout"), "[|]")
	inputs["addPreviousOutputInEnv"] = true
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	if err := e.delete(step); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "what delete saw", lines(t, kept), "[[[|]|]|]")
	mustEqual(t, "warnings", e.warnings(), "")
}

func TestPreviousOutputsThatCannotBeSetAreAWarning(t *testing.T) {
	t.Parallel()
	e, refusing := newEngine(t), startSSH(t)
	step := e.mustCreate(remoteCommand, values{"connection": refusing.connection(), "create": "echo out"})
	if err := e.update(step, values{"connection": refusing.connection(), "create": "echo out2"}); err != nil {
		t.Fatal(err)
	}
	mustContain(t, e.warnings(), "PULUMI_COMMAND_STDOUT", "AcceptEnv")

	e = newEngine(t)
	server := startSSH(t, func(s *sshServer) { s.acceptEnv = []string{"PULUMI_COMMAND_STDOUT"} })
	long := "head -c 1000000 /dev/zero | tr '\\0' x"
	step = e.mustCreate(remoteCommand, values{"connection": server.connection(), "create": long})
	if err := e.update(step, values{"connection": server.connection(), "create": "echo short"}); err != nil {
		t.Fatal(err)
	}
	mustContain(t, e.warnings(), "PULUMI_COMMAND_STDOUT", "1000000 bytes")
}

func TestConnectionIsClosedAfterEveryRun(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t)
	for _, create := range []string{"true", "exit 1", "echo out", "kill -KILL $$"} {
		_, _ = e.create(remoteCommand, values{"connection": server.connection(), "create": create})
	}
	_, _ = e.create(remoteCommand, values{
		"connection": server.connection(), "create": "true", "environment": values{"REFUSED": "x"},
	})
	mustEqual(t, "logins", server.logins.Load(), 5)
	server.waitUntilUnused()
}

func TestTimeoutStopsTheCommandOnTheOtherMachine(t *testing.T) {
	t.Parallel()
	asRoot := func(s *sshServer) { s.noSignals = true }
	asRootWithDash := func(s *sshServer) { s.noSignals, s.shell = true, "/bin/sh" }
	withoutSecondSession := func(s *sshServer) { s.oneSession = true }
	script := "timeout -k 10 600 bash -euo pipefail -s"
	for name, c := range map[string]struct {
		create string
		server func(*sshServer)
	}{
		"a process":                              {"echo $$ > %s; echo began; exec sleep 600", func(*sshServer) {}},
		"a process of a server with one session": {"echo $$ > %s; echo began; exec sleep 600", withoutSecondSession},
		"a process of root":                      {"echo $$ > %s; echo began; exec sleep 600", asRoot},
		"a child":                                {"sh -c 'echo $$ > %s; echo began; sleep 600; true'; true", asRoot},
		"a script":                               {script, func(*sshServer) {}},
		"a script of root":                       {script, asRoot},
		"a script of root under another shell":   {script, asRootWithDash},
		"a script that is not the last command":  {script + "; true", asRoot},
		"deaf to TERM":                           {"trap '' TERM; echo $$ > %s; echo began; while :; do sleep 600; done", asRoot},
		"a deaf child of one that is not":        {"sh -c 'trap \"\" TERM; echo $$ > %s; echo began; sleep 600; sleep 600'; true", asRoot},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, server, pid := newEngine(t), startSSH(t, c.server), inTemp(t, "pid")
			inputs := values{"connection": server.connection(), "create": c.create}
			if strings.Contains(c.create, "%s") {
				inputs["create"] = fmt.Sprintf(c.create, pid)
			} else {
				inputs["stdin"] = fmt.Sprintf("echo $$ > %s\necho began\nsleep 600\n", pid)
			}
			_, err := e.create(remoteCommand, inputs, withTimeout(e.long(remoteCommand, inputs)))
			mustFail(t, err, "stopped after", "custom timeout", "began")
			eventually(t, "the process is gone", func() bool { return gone(t, pid) })
			server.waitUntilUnused()
		})
	}
}

func TestCommandThatIsStoppedMayCleanUp(t *testing.T) {
	t.Parallel()
	clean := "trap 'echo cleaned; exit 1' TERM; echo began; sleep 600 & wait"
	e, server := newEngine(t), startSSH(t, func(s *sshServer) { s.noSignals = true })
	for kind, inputs := range map[string]values{
		remoteCommand: {"connection": server.connection(), "create": clean},
		localCommand:  {"create": clean},
	} {
		_, err := e.create(kind, inputs, withTimeout(e.long(kind, inputs)))
		mustFail(t, err, "stopped after", "cleaned")
	}
}

func TestStoppingOneCommandLeavesOthersOfTheMachineAlone(t *testing.T) {
	t.Parallel()
	e, server, pid, proceed := newEngine(t), startSSH(t), inTemp(t, "pid"), inTemp(t, "proceed")
	ended := make(chan error, 1)
	go func() {
		_, err := e.create(remoteCommand, values{
			"connection": server.connection(),
			"create":     "echo $$ > " + pid + "; until test -e " + proceed + "; do sleep 0.02; done",
		})
		ended <- err
	}()
	writtenPID(t, pid)
	_, err := e.create(remoteCommand, values{
		"connection": server.connection(), "create": "sleep 600",
	}, withTimeout(1))
	mustFail(t, err, "stopped after 1")
	write(t, proceed, "")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestCancelStopsTheCommandOnTheOtherMachine(t *testing.T) {
	t.Parallel()
	e, server, pid := newEngine(t), startSSH(t), inTemp(t, "pid")
	ended := make(chan error, 1)
	go func() {
		_, err := e.create(remoteCommand, values{
			"connection": server.connection(), "create": "echo $$ > " + pid + "; exec sleep 600",
		})
		ended <- err
	}()
	writtenPID(t, pid)
	e.cancel()
	mustFail(t, <-ended, "stopped after", "the update was cancelled")
	eventually(t, "the process is gone", func() bool { return gone(t, pid) })
	server.waitUntilUnused()
}

func TestLostConnectionIsNotASuccess(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	listener := listen(t, 0)
	server := startSSHOn(t, listener)
	relay, cut := startRelay(t, server.address())
	ended := make(chan error, 1)
	go func() {
		_, err := e.create(remoteCommand, values{
			"connection": server.connection(values{"port": relay}), "create": "echo began; exec sleep 600",
		})
		ended <- err
	}()
	eventually(t, "the command runs", func() bool { return strings.Contains(e.info(), "began") })
	cut()
	mustFail(t, <-ended, "without an exit status", "connection was lost")
}

func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t, func(s *sshServer) { s.acceptEnv = []string{"TOKEN"} })
	inputs := values{
		"connection": server.connection(), "create": "true",
		"stdin": secret("hidden input"), "environment": secret(map[string]any{"TOKEN": "hidden-token"}),
	}
	step := e.mustCreate(remoteCommand, inputs)
	for _, moment := range []string{"create", "update"} {
		for where, properties := range map[string]resource.PropertyMap{
			"inputs": unmarshal(t, step.inputs), "state": unmarshal(t, step.state),
		} {
			for _, name := range []resource.PropertyKey{"connection", "stdin", "environment"} {
				mustEqual(t, fmt.Sprintf("%s is secret in the %s after %s", name, where, moment),
					properties[name].IsSecret(), true)
			}
			mustEqual(t, "create is secret", properties["create"].IsSecret(), false)
		}
		inputs["update"] = "true"
		if err := e.update(step, inputs); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatACommandPrintsOfItsSecretsIsNotShown(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	server := startSSH(t, func(s *sshServer) { s.acceptEnv = []string{"TOKEN", "COLOUR"}; s.password = "hunter2-password" })
	_, err := e.create(remoteCommand, values{
		"connection": server.connection(values{"password": "hunter2-password"}),
		"create":     "cat; echo token $TOKEN colour $COLOUR; echo hunter2-password; exit 9",
		"stdin":      secret("first hidden line\nif\n" + testKeyText),
		"environment": values{
			"TOKEN": secret("hidden-token"), "COLOUR": "deep-blue",
		},
	})
	message := mustFail(t, err, "exit status 9", "token [secret]", "colour deep-blue")
	for _, text := range []string{message, e.info()} {
		mustNotContain(t, text, "hidden line", "hidden-token", "hunter2", strings.Split(testKeyText, "\n")[1])
	}
}
