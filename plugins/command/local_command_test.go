package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

func TestLocalCommandLivesAsThePublishedOneDoes(t *testing.T) {
	t.Parallel()
	e, did := newEngine(t), inTemp(t, "did")
	show := `echo "[$PULUMI_COMMAND_STDOUT|$PULUMI_COMMAND_STDERR]"`
	inputs := values{
		"create": appending("create", did) + "; echo out; echo err >&2",
		"delete": appending("delete", did) + ";" + show + " >> " + did,
	}
	step := e.mustCreate(localCommand, inputs, inPreview)
	mustEqual(t, "after a preview", lines(t, did), "")
	step = e.mustCreate(localCommand, inputs)
	mustEqual(t, "outputs", e.output(step, "stdout")+" "+e.output(step, "stderr"), "out err")
	mustEqual(t, "diff of the same inputs", e.diff(step, inputs).GetChanges(), pulumirpc.DiffResponse_DIFF_NONE)
	inputs["stdin"] = "1"
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	inputs["update"] = show
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "stdout of update", e.output(step, "stdout"), "[out|err]")
	inputs["addPreviousOutputInEnv"] = false
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "stdout of update without previous outputs", e.output(step, "stdout"), "[|]")
	inputs["triggers"] = []any{"a"}
	mustEqual(t, "replaced by", strings.Join(e.diff(step, inputs).GetReplaces(), " "), "triggers")
	if err := e.delete(step); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "what was done", lines(t, did), "create create delete [|]")
	mustEqual(t, "a command without commands", e.output(e.mustCreate(localCommand, values{}), "stdout"), "")
}

func TestLocalCommandTakesItsSurroundingsFromItsInputs(t *testing.T) {
	t.Parallel()
	e, dir := newEngine(t), t.TempDir()
	step := e.mustCreate(localCommand, values{
		"create": "cat; echo $COLOUR; pwd; echo $0", "stdin": "words\n", "environment": values{"COLOUR": "blue"},
		"dir": dir, "interpreter": []any{"/bin/bash", "-c"},
	})
	mustEqual(t, "stdout", e.output(step, "stdout"), "words\nblue\n"+dir+"\n/bin/bash")
	_, err := e.create(localCommand, values{"create": "true", "dir": dir + "/missing"})
	mustFail(t, err, "did not start", dir+"/missing")
	_, err = e.create(localCommand, values{"create": "true", "interpreter": []any{"no-such-interpreter"}})
	mustFail(t, err, "did not start", "no-such-interpreter")
}

func TestFailingLocalCommandTellsStatusAndLastLinesOnly(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	_, err := e.create(localCommand, values{
		"create": "cat; seq 1 9000; echo the reason >&2; exit 42 # a mark", "logging": "none",
		"stdin": secret("a hidden line"), "environment": secret(map[string]any{"TOKEN": "hidden-token"}),
	})
	message := mustFail(t, err, "exit status 42", "the reason", "9000", "8990")
	mustNotContain(t, message, "a mark", "\n8970\n", "hidden")
	_, err = e.create(localCommand, values{"create": "kill -KILL $$"})
	mustFail(t, err, "signal killed")
}

func TestLocalLoggingShowsTheChosenStreamsAndSurvivesLongLines(t *testing.T) {
	t.Parallel()
	const long = 1_500_000
	script := fmt.Sprintf("echo on-stdout; echo on-stderr >&2; head -c %d /dev/zero | tr '\\0' o; echo; echo last-word", long)
	for logging, shown := range map[string]struct{ stdout, stderr bool }{
		"stdoutAndStderr": {true, true}, "stdout": {true, false}, "stderr": {false, true}, "none": {},
	} {
		t.Run("logging "+logging, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t)
			step := e.mustCreate(localCommand, values{"create": script, "logging": logging})
			mustEqual(t, "length of stdout", len(e.output(step, "stdout")), len("on-stdout\n\nlast-word")+long)
			mustEqual(t, "stdout is logged", strings.Contains(e.info(), "last-word"), shown.stdout)
			mustEqual(t, "stderr is logged", strings.Contains(e.info(), "on-stderr"), shown.stderr)
			if err := e.update(step, values{"create": "echo short", "logging": logging}); err != nil {
				t.Fatal(err)
			}
			mustContain(t, e.warnings(), "PULUMI_COMMAND_STDOUT")
		})
	}
}

func TestDaemonThatKeepsTheOutputOpenHoldsNothingUp(t *testing.T) {
	t.Parallel()
	e, pid := newEngine(t), inTemp(t, "pid")
	step := e.mustCreate(localCommand, values{"create": "sleep 600 & echo $! > " + pid + "; echo started"})
	mustEqual(t, "stdout", e.output(step, "stdout"), "started")
	daemon := writtenPID(t, pid)
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Errorf("the daemon has been ended with the command: %s", err)
	}
}

func TestTimeoutEndsTheLocalCommandWithAllThatItStarted(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]string{
		"shell and child": "sleep 600 & echo $! > %[1]s.child; echo $$ > %[1]s; echo began; wait",
		"deaf to TERM":    "trap '' TERM; sh -c 'echo $$ > %[1]s.child; sleep 600' & echo $$ > %[1]s; echo began; wait",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, pid := newEngine(t), inTemp(t, "pid")
			inputs := values{"create": fmt.Sprintf(create, pid)}
			_, err := e.create(localCommand, inputs, withTimeout(e.long(localCommand, inputs)))
			mustFail(t, err, "stopped after", "custom timeout", "began")
			eventually(t, "the processes are gone", func() bool { return gone(t, pid) && gone(t, pid+".child") })
		})
	}
}

func TestCancelEndsTheLocalCommand(t *testing.T) {
	t.Parallel()
	e, pid := newEngine(t), inTemp(t, "pid")
	ended := make(chan error, 1)
	go func() {
		_, err := e.create(localCommand, values{"create": "echo $$ > " + pid + "; exec sleep 600"})
		ended <- err
	}()
	writtenPID(t, pid)
	e.cancel()
	mustFail(t, <-ended, "the update was cancelled")
	mustEqual(t, "the process is gone", gone(t, pid), true)
}

func TestLocalSecretsStaySecret(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	step := e.mustCreate(localCommand, values{
		"create": "true", "stdin": secret("hidden"), "environment": secret(map[string]any{"TOKEN": "hidden-token"}),
	})
	for _, name := range []resource.PropertyKey{"stdin", "environment"} {
		mustEqual(t, string(name)+" is secret in the state", unmarshal(t, step.state)[name].IsSecret(), true)
	}
}

func TestFilesAreFoundByTheirPatterns(t *testing.T) {
	t.Parallel()
	e, dir := newEngine(t), t.TempDir()
	step := e.mustCreate(localCommand, values{
		"create":       "mkdir -p src/deep; echo 1 > a.txt; echo 2 > src/b.js; echo 3 > src/secret.js; echo 4 > src/deep/c.js",
		"dir":          dir,
		"assetPaths":   []any{"*.txt", "src/**.js", "!**secret.*"},
		"archivePaths": []any{"src/*"},
	})
	state := unmarshal(t, step.state)
	var names []string
	for name, asset := range state["assets"].ObjectValue() {
		names = append(names, string(name))
		mustEqual(t, "path of "+string(name), asset.AssetValue().Path, filepath.Join(dir, string(name)))
	}
	sort.Strings(names)
	mustEqual(t, "assets", strings.Join(names, " "), "a.txt src/b.js src/deep/c.js")
	names = nil
	for name := range state["archive"].ArchiveValue().Assets {
		names = append(names, name)
	}
	sort.Strings(names)
	mustEqual(t, "files in the archive", strings.Join(names, " "), "src/b.js src/secret.js")
	_, err := e.create(localCommand, values{"create": "true", "dir": dir, "assetPaths": []any{"[a"}})
	mustFail(t, err, "assetPaths", "[a")
}

func TestFunctionRunRunsAndReturnsWhatWasWritten(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.txt"), "1")
	invoke := func(arguments values) (resource.PropertyMap, error) {
		response, err := e.plugin.Invoke(context.Background(), &pulumirpc.InvokeRequest{
			Tok: "command:local:run", Args: marshal(t, resource.NewPropertyMapFromMap(plain(arguments))),
		})
		if err != nil {
			return nil, err
		}
		return unmarshal(t, response.GetReturn()), nil
	}
	result, err := invoke(values{
		"command": "echo $COLOUR; echo e >&2", "environment": values{"COLOUR": "blue"},
		"dir": dir, "assetPaths": []any{"*"}, "archivePaths": []any{"*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "stdout", result["stdout"].StringValue(), "blue")
	mustEqual(t, "stderr", result["stderr"].StringValue(), "e")
	mustEqual(t, "command", result["command"].StringValue(), "echo $COLOUR; echo e >&2")
	mustEqual(t, "an asset", result["assets"].ObjectValue()["a.txt"].AssetValue().Path, filepath.Join(dir, "a.txt"))
	mustEqual(t, "files in the archive", len(result["archive"].ArchiveValue().Assets), 1)
	_, err = invoke(values{"command": "exit 5"})
	mustFail(t, err, "exit status 5")
}

func TestDefaultFolderIsTheProcess(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "stdout", e.output(e.mustCreate(localCommand, values{"create": "pwd"}), "stdout"), here)
}
