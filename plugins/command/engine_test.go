package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/integration/fake"
	pprovider "github.com/pulumi/pulumi/pkg/v3/resource/provider"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// The key that every test's server accepts, and its text as a program would give it.
var (
	testKey     ssh.Signer
	testKeyText string
	testKeyRaw  ed25519.PrivateKey
)

func TestMain(m *testing.M) {
	// The plugin would use the developer's own agent.
	_ = os.Unsetenv("SSH_AUTH_SOCK")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		testKeyRaw = key
		testKey, err = ssh.NewSignerFromKey(key)
	}
	if err != nil {
		panic(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		panic(err)
	}
	testKeyText = string(pem.EncodeToMemory(block))
	os.Exit(m.Run())
}

const (
	remoteCommand = "command:remote:Command"
	copyToRemote  = "command:remote:CopyToRemote"
	localCommand  = "command:local:Command"
)

// values are properties as a program writes them; secret marks one as secret.
type values map[string]any

func secret(value any) any { return resource.MakeSecret(resource.NewPropertyValue(value)) }

// connection is how a test's program reaches a server, with changes to what is usual.
func (s *sshServer) connection(changes ...values) values {
	result := values{
		"host": "127.0.0.1", "port": s.port, "user": "tester",
		"privateKey": testKeyText, "hostKey": s.hostKey(), "dialErrorLimit": 0,
	}
	for _, change := range changes {
		for key, value := range change {
			if value == nil {
				delete(result, key)
			} else {
				result[key] = value
			}
		}
	}
	return result
}

// engine talks to the plugin's gRPC service as Pulumi's engine does: check, then create or diff and
// update, with secrets kept and previous inputs sent. It collects what the plugin logs.
type engine struct {
	t      *testing.T
	logs   *fake.EngineServer
	plugin pulumirpc.ResourceProviderServer
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	logs := fake.NewEngineServer()
	ctx, stop := context.WithCancel(context.Background())
	address, ended, err := fake.StartEngineServer(ctx, logs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); <-ended })
	host, err := pprovider.NewHostClient(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.EngineConn().Close() })
	server, err := p.RawServer("command", version, newProvider())(host)
	if err != nil {
		t.Fatal(err)
	}
	_, err = server.Configure(ctx, &pulumirpc.ConfigureRequest{
		AcceptSecrets: true, SendsOldInputs: true, SendsOldInputsToDelete: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &engine{t: t, logs: logs, plugin: server}
}

// instance is what the engine's state holds of a resource.
type instance struct {
	kind, urn, id string
	inputs, state *structpb.Struct
}

func marshal(t *testing.T, properties resource.PropertyMap) *structpb.Struct {
	t.Helper()
	result, err := plugin.MarshalProperties(properties, plugin.MarshalOptions{KeepSecrets: true, KeepUnknowns: true})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func unmarshal(t *testing.T, properties *structpb.Struct) resource.PropertyMap {
	t.Helper()
	result, err := plugin.UnmarshalProperties(properties, plugin.MarshalOptions{KeepSecrets: true, KeepUnknowns: true})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func plain(v values) map[string]any {
	result := map[string]any{}
	for key, value := range v {
		if nested, ok := value.(values); ok {
			value = plain(nested)
		}
		result[key] = value
	}
	return result
}

// check runs the plugin's check and returns the inputs with defaults and secrets applied.
func (e *engine) check(kind string, inputs values) (*structpb.Struct, []*pulumirpc.CheckFailure) {
	e.t.Helper()
	response, err := e.plugin.Check(context.Background(), &pulumirpc.CheckRequest{
		Urn: urn(kind), News: marshal(e.t, resource.NewPropertyMapFromMap(plain(inputs))),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return response.GetInputs(), response.GetFailures()
}

func (e *engine) checked(kind string, inputs values) *structpb.Struct {
	e.t.Helper()
	result, failures := e.check(kind, inputs)
	if len(failures) > 0 {
		e.t.Fatalf("check failed: %v", failures)
	}
	return result
}

func urn(kind string) string {
	return "urn:pulumi:stack::project::" + kind + "::step"
}

type option func(*request)

type request struct {
	timeout float64
	preview bool
}

func withTimeout(seconds float64) option { return func(r *request) { r.timeout = seconds } }
func inPreview(r *request)               { r.preview = true }

func (e *engine) create(kind string, inputs values, options ...option) (*instance, error) {
	e.t.Helper()
	var r request
	for _, set := range options {
		set(&r)
	}
	result := &instance{kind: kind, urn: urn(kind), inputs: e.checked(kind, inputs)}
	response, err := e.plugin.Create(context.Background(), &pulumirpc.CreateRequest{
		Urn: result.urn, Name: "step", Type: kind, Properties: result.inputs, Timeout: r.timeout, Preview: r.preview,
	})
	if err != nil {
		if response != nil {
			e.t.Errorf("a failed create returned the state %v", response)
		}
		return nil, err
	}
	result.id, result.state = response.GetId(), response.GetProperties()
	return result, nil
}

func (e *engine) mustCreate(kind string, inputs values, options ...option) *instance {
	e.t.Helper()
	result, err := e.create(kind, inputs, options...)
	if err != nil {
		e.t.Fatal(err)
	}
	return result
}

// long is a time limit within which a command surely begins on this computer, as busy as it is now:
// ten times what a command that does nothing takes, its login included, and at least a second.
func (e *engine) long(kind string, inputs values) float64 {
	e.t.Helper()
	began, quick := time.Now(), values{}
	maps.Copy(quick, inputs)
	quick["create"] = "true"
	e.mustCreate(kind, quick)
	return math.Ceil(10 * time.Since(began).Seconds())
}

func (e *engine) diff(i *instance, inputs values) *pulumirpc.DiffResponse {
	e.t.Helper()
	response, err := e.plugin.Diff(context.Background(), &pulumirpc.DiffRequest{
		Id: i.id, Urn: i.urn, Olds: i.state, OldInputs: i.inputs, News: e.checked(i.kind, inputs),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return response
}

// update changes i as the engine does after a diff; a failure leaves i as it was.
func (e *engine) update(i *instance, inputs values, options ...option) error {
	e.t.Helper()
	var r request
	for _, set := range options {
		set(&r)
	}
	news := e.checked(i.kind, inputs)
	response, err := e.plugin.Update(context.Background(), &pulumirpc.UpdateRequest{
		Id: i.id, Urn: i.urn, Olds: i.state, OldInputs: i.inputs, News: news, Timeout: r.timeout, Preview: r.preview,
	})
	if err != nil {
		if response != nil {
			e.t.Errorf("a failed update returned the state %v", response)
		}
		return err
	}
	i.inputs, i.state = news, response.GetProperties()
	return nil
}

func (e *engine) delete(i *instance) error {
	_, err := e.plugin.Delete(context.Background(), &pulumirpc.DeleteRequest{
		Id: i.id, Urn: i.urn, Properties: i.state, OldInputs: i.inputs,
	})
	return err
}

func (e *engine) cancel() {
	e.t.Helper()
	if _, err := e.plugin.Cancel(context.Background(), &emptypb.Empty{}); err != nil {
		e.t.Fatal(err)
	}
}

// output returns a text output, whether it is secret or not.
func (e *engine) output(i *instance, name string) string {
	e.t.Helper()
	value := unmarshal(e.t, i.state)[resource.PropertyKey(name)]
	if value.IsSecret() {
		value = value.SecretValue().Element
	}
	if !value.IsString() {
		e.t.Fatalf("output %s is %v", name, value)
	}
	return value.StringValue()
}

// log returns the messages that the plugin sent with the given severity.
func (e *engine) log(severity pulumirpc.LogSeverity) []string {
	var messages []string
	for _, entry := range e.logs.Logs() {
		if entry.GetSeverity() == severity {
			messages = append(messages, entry.GetMessage())
		}
	}
	return messages
}

func (e *engine) info() string     { return strings.Join(e.log(pulumirpc.LogSeverity_INFO), "\n") }
func (e *engine) warnings() string { return strings.Join(e.log(pulumirpc.LogSeverity_WARNING), "\n") }

func mustContain(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

func mustNotContain(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(text, part) {
			t.Errorf("%q must not be in:\n%s", part, text)
		}
	}
}

func mustFail(t *testing.T, err error, parts ...string) string {
	t.Helper()
	if err == nil {
		t.Fatal("it succeeded, but it had to fail")
	}
	mustContain(t, err.Error(), parts...)
	return err.Error()
}

func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// lines reads a file that commands append to; a file that is not there has none.
func lines(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

func inTemp(t *testing.T, name string) string { t.Helper(); return filepath.Join(t.TempDir(), name) }

func appending(word, file string) string { return fmt.Sprintf("echo %s >> %s", word, file) }
