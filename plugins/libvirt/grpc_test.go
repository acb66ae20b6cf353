package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt/libvirttest"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"hardway.invalid/plugins/pulumi-resource-libvirt/provider"
)

const (
	pluginVariable = "LIBVIRT_PLUGIN_TEST_RUN"
	uriVariable    = "LIBVIRT_DEFAULT_URI"
	domainToken    = "libvirt:index/domain:Domain"
)

// TestMain makes this program the plugin itself when the variable is set.
func TestMain(m *testing.M) {
	if os.Getenv(pluginVariable) != "" {
		main()
		return
	}
	log.SetOutput(io.Discard) // the Terraform provider's own debugging
	os.Exit(m.Run())
}

// serve starts the provider behind a real gRPC server on loopback and returns a client of it.
func serve(t *testing.T) pulumirpc.ResourceProviderClient {
	t.Helper()
	stop := make(chan bool)
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: stop,
		Init: func(server *grpc.Server) error {
			info := provider.Info()
			bridged := tfbridge.NewProvider(
				context.Background(), nil, provider.Name, provider.Version, info.P, info, schemaJSON)
			pulumirpc.RegisterResourceProviderServer(server, bridged)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(stop)
		<-handle.Done
	})
	return dial(t, handle.Port)
}

func dial(t *testing.T, port int) pulumirpc.ResourceProviderClient {
	t.Helper()
	address := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	connection, err := grpc.NewClient(address.String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), rpcutil.GrpcChannelOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return pulumirpc.NewResourceProviderClient(connection)
}

// hypervisor is a libvirt daemon that only knows how to be connected to.
type hypervisor struct {
	uri   string
	calls atomic.Int32
	open  sync.Map
}

// hangUp ends every connection, as a daemon does that is stopped.
func (h *hypervisor) hangUp() {
	h.open.Range(func(connection, _ any) bool {
		_ = connection.(net.Conn).Close()
		return true
	})
}

// startHypervisor listens on a socket of its own.
func startHypervisor(t *testing.T) *hypervisor {
	t.Helper()
	// Not below TMPDIR: the path of a socket has room for 107 bytes.
	folder, err := os.MkdirTemp("/tmp", "libvirt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	socket := filepath.Join(folder, "libvirt-sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	daemon := &hypervisor{uri: "qemu+unix:///system?socket=" + socket}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			daemon.calls.Add(1)
			daemon.open.Store(connection, true)
			answers, err := libvirttest.New().Dial()
			if err != nil {
				_ = connection.Close()
				continue
			}
			go func() { _, _ = io.Copy(answers, connection); _ = answers.Close() }()
			go func() { _, _ = io.Copy(connection, answers); _ = connection.Close() }()
		}
	}()
	return daemon
}

func properties(t *testing.T, table map[string]any) *structpb.Struct {
	t.Helper()
	marshalled, err := plugin.MarshalProperties(resource.NewPropertyMapFromMap(table),
		plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true, KeepResources: true})
	if err != nil {
		t.Fatal(err)
	}
	return marshalled
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func configure(t *testing.T, client pulumirpc.ResourceProviderClient, settings map[string]any) error {
	t.Helper()
	_, err := client.Configure(deadline(t), &pulumirpc.ConfigureRequest{
		Args: properties(t, settings), AcceptSecrets: true, AcceptResources: true,
	})
	return err
}

func urn(token, name string) string {
	return "urn:pulumi:dev::hardway::" + token + "::" + name
}

func check(t *testing.T, client pulumirpc.ResourceProviderClient, token string, inputs map[string]any) *pulumirpc.CheckResponse {
	t.Helper()
	response, err := client.Check(deadline(t), &pulumirpc.CheckRequest{
		Urn: urn(token, "master"), Olds: properties(t, nil), News: properties(t, inputs),
		RandomSeed: []byte("a seed of thirty-two bytes, here"),
	})
	if err != nil {
		t.Fatalf("%s: %v", token, err)
	}
	return response
}

func TestTheEngineIsToldTheVersionAndTheSchema(t *testing.T) {
	client := serve(t)
	info, err := client.GetPluginInfo(deadline(t), &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	if wanted := readSDK(t).Version; info.Version != wanted || readSchema(t).Version != wanted {
		t.Errorf("plugin says %s, its schema %s, the SDK asks for %s", info.Version, readSchema(t).Version, wanted)
	}
	answer, err := client.GetSchema(deadline(t), &pulumirpc.GetSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Schema != string(schemaJSON) {
		t.Error("the schema over gRPC is not the committed one")
	}
}

func TestTheProviderConnectsToTheURIOfItsSettings(t *testing.T) {
	wanted, other := startHypervisor(t), startHypervisor(t)
	t.Setenv(uriVariable, other.uri)
	if err := configure(t, serve(t), map[string]any{"uri": wanted.uri}); err != nil {
		t.Fatal(err)
	}
	if wanted.calls.Load() != 1 || other.calls.Load() != 0 {
		t.Errorf("connections: %d to uri, %d to %s", wanted.calls.Load(), other.calls.Load(), uriVariable)
	}
}

func TestTheProviderFallsBackToTheURIOfTheEnvironment(t *testing.T) {
	daemon := startHypervisor(t)
	t.Setenv(uriVariable, daemon.uri)
	if err := configure(t, serve(t), nil); err != nil {
		t.Fatal(err)
	}
	if daemon.calls.Load() != 1 {
		t.Errorf("%d connections to the URI of %s", daemon.calls.Load(), uriVariable)
	}
}

func TestSettingsThatCannotWorkAreRefusedBeforeAnyConnection(t *testing.T) {
	daemon := startHypervisor(t)
	for name, test := range map[string]struct {
		environment string
		settings    map[string]any
		message     string
	}{
		"no URI":                   {"", nil, "uri"},
		"a typo":                   {"", map[string]any{"uri": daemon.uri, "url": daemon.uri}, "url"},
		"a URI":                    {"", map[string]any{"uri": daemon.uri}, ""},
		"a URI in the environment": {daemon.uri, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(uriVariable, test.environment)
			answer, err := serve(t).CheckConfig(deadline(t), &pulumirpc.CheckRequest{
				Urn:  urn("pulumi:providers:libvirt", "hypervisor"),
				Olds: properties(t, nil), News: properties(t, test.settings),
			})
			if err != nil {
				t.Fatal(err)
			}
			var reasons []string
			for _, failure := range answer.Failures {
				reasons = append(reasons, failure.Reason)
			}
			if (len(reasons) > 0) != (test.message != "") || !strings.Contains(strings.Join(reasons, " "), test.message) {
				t.Errorf("wanted a failure about %q, got %q", test.message, reasons)
			}
		})
	}
	if daemon.calls.Load() != 0 {
		t.Errorf("%d connections for a mere check", daemon.calls.Load())
	}
}

func TestAConnectionThatFailsIsAnErrorWithItsReason(t *testing.T) {
	t.Setenv(uriVariable, "")
	nobody := filepath.Join(t.TempDir(), "nobody")
	for name, test := range map[string]struct{ uri, message string }{
		"nobody listens":    {"qemu+unix:///system?socket=" + nobody, nobody},
		"not a URI":         {"::", "missing protocol scheme"},
		"no such transport": {"qemu+pigeon:///system", "transport"},
	} {
		t.Run(name, func(t *testing.T) {
			err := configure(t, serve(t), map[string]any{"uri": test.uri})
			if err == nil || !strings.Contains(err.Error(), test.message) {
				t.Errorf("wanted an error about %q, got %v", test.message, err)
			}
		})
	}
}

func TestEveryResourceOfTheSDKIsServedAndNamedWhenItHasNoName(t *testing.T) {
	client := serve(t)
	for token, wanted := range readSDK(t).Resources {
		t.Run(token, func(t *testing.T) {
			if _, takesName := wanted.Inputs["name?"]; !takesName {
				t.Fatal("the SDK needs a name, so this test has nothing to see")
			}
			given := check(t, client, token, map[string]any{"name": "mine"}).Inputs.Fields["name"]
			if given.GetStringValue() != "mine" {
				t.Errorf("the given name became %v", given)
			}
			made := check(t, client, token, nil).Inputs.Fields["name"].GetStringValue()
			if !strings.HasPrefix(made, "master-") || len(made) != len("master-")+7 {
				t.Errorf("the name of a resource without one: %q", made)
			}
		})
	}
}

func TestFunctionsThatAskTheHostAreServedAndEndWhenItHangsUp(t *testing.T) {
	daemon := startHypervisor(t)
	client := serve(t)
	if err := configure(t, client, map[string]any{"uri": daemon.uri}); err != nil {
		t.Fatal(err)
	}
	daemon.hangUp()
	for token, wanted := range readSDK(t).Functions {
		if !strings.Contains(token, "getNode") {
			continue
		}
		arguments := map[string]any{}
		if _, named := wanted.Inputs["name"]; named {
			arguments["name"] = "computer"
		}
		answer, err := client.Invoke(deadline(t), &pulumirpc.InvokeRequest{
			Tok: token, Args: properties(t, arguments),
		})
		if err == nil || strings.Contains(err.Error(), "unrecognized") || status.Code(err) == codes.DeadlineExceeded {
			t.Errorf("%s after the daemon hung up: %v, %v", token, answer, err)
		}
	}
}

func TestFunctionsThatRenderTextNeedNoHost(t *testing.T) {
	client := serve(t)
	for token, test := range map[string]struct {
		arguments map[string]any
		wanted    string
	}{
		"libvirt:index/getNetworkDnsHostTemplate:getNetworkDnsHostTemplate": {
			map[string]any{"ip": "192.168.1.10", "hostname": "master"}, "192.168.1.10"},
		"libvirt:index/getNetworkDnsSrvTemplate:getNetworkDnsSrvTemplate": {
			map[string]any{"service": "etcd-server-ssl", "protocol": "tcp"}, "etcd-server-ssl"},
		"libvirt:index/getNetworkDnsmasqOptionsTemplate:getNetworkDnsmasqOptionsTemplate": {
			map[string]any{"optionName": "no-resolv"}, "no-resolv"},
	} {
		answer, err := client.Invoke(deadline(t), &pulumirpc.InvokeRequest{Tok: token, Args: properties(t, test.arguments)})
		if err != nil {
			t.Fatalf("%s: %v", token, err)
		}
		if text := answer.Return.String(); len(answer.Failures) > 0 || !strings.Contains(text, test.wanted) {
			t.Errorf("%s: %v %v", token, answer.Failures, text)
		}
	}
}

func TestAPreviewOfANewDomainNeedsNoAnswerFromLibvirt(t *testing.T) {
	daemon := startHypervisor(t)
	client := serve(t)
	if err := configure(t, client, map[string]any{"uri": daemon.uri}); err != nil {
		t.Fatal(err)
	}
	inputs := map[string]any{
		"name": "master", "type": "qemu", "memory": 2048, "vcpu": 2, "cpu": map[string]any{"mode": "custom"},
		"disks":             []any{map[string]any{"volumeId": "/pool/master"}},
		"networkInterfaces": []any{map[string]any{"networkName": "hardway", "mac": "52:54:00:00:00:10"}},
	}
	checked := check(t, client, domainToken, inputs)
	if len(checked.Failures) > 0 {
		t.Fatalf("%v", checked.Failures)
	}
	created, err := client.Create(deadline(t), &pulumirpc.CreateRequest{
		Urn: urn(domainToken, "master"), Properties: checked.Inputs, Preview: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	outputs := created.Properties.Fields
	if outputs["type"].GetStringValue() != "qemu" || outputs["memory"].GetNumberValue() != 2048 {
		t.Errorf("the preview lost an input: %v", outputs)
	}
	if mode := outputs["cpu"].GetStructValue().GetFields()["mode"].GetStringValue(); mode != "custom" {
		t.Errorf("cpu is not one object as in the SDK: %v", outputs["cpu"])
	}
}

func TestAWrongInputIsRefusedByCheck(t *testing.T) {
	client := serve(t)
	for name, inputs := range map[string]map[string]any{
		"no number":        {"memory": "much"},
		"no such property": {"memori": 1024},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := client.Check(deadline(t), &pulumirpc.CheckRequest{
				Urn: urn(domainToken, "master"), Olds: properties(t, nil), News: properties(t, inputs),
			})
			for property := range inputs {
				if said := fmt.Sprint(answer.GetFailures(), err); !strings.Contains(said, property) {
					t.Errorf("nothing about %s: %s", property, said)
				}
			}
		})
	}
}

func TestADiffTellsReplacementFromUpdate(t *testing.T) {
	client := serve(t)
	old := map[string]any{"name": "master", "memory": 1024, "vcpu": 1, "running": true, "autostart": false}
	for property, test := range map[string]struct {
		value    any
		replaces bool
	}{
		"memory":    {2048, true},
		"vcpu":      {2, true},
		"name":      {"other", true},
		"autostart": {true, false},
		"memory=":   {1024, false},
	} {
		t.Run(property, func(t *testing.T) {
			changes := !strings.HasSuffix(property, "=")
			property := strings.TrimSuffix(property, "=")
			changed := map[string]any{}
			for name, value := range old {
				changed[name] = value
			}
			changed[property] = test.value
			before := check(t, client, domainToken, old).Inputs
			answer, err := client.Diff(deadline(t), &pulumirpc.DiffRequest{
				Id: "0", Urn: urn(domainToken, "master"), Olds: before, OldInputs: before,
				News: check(t, client, domainToken, changed).Inputs,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := answer.Changes == pulumirpc.DiffResponse_DIFF_SOME; got != changes {
				t.Errorf("changes: %v, wanted %v", answer.Changes, changes)
			}
			if got := slices.Contains(answer.Replaces, property); got != test.replaces {
				t.Errorf("replaces: %v, wanted %v", answer.Replaces, test.replaces)
			}
		})
	}
}

// pluginProcess prepares the plugin as a process of its own, as the engine starts it.
func pluginProcess(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(deadline(t), os.Args[0], arguments...)
	command.Env = append(os.Environ(), pluginVariable+"=1")
	return command
}

func TestTheProgramPrintsItsVersion(t *testing.T) {
	output, err := pluginProcess(t, "-version").Output()
	if err != nil || string(output) != readSDK(t).Version+"\n" {
		t.Errorf("-version prints %q, %v", output, err)
	}
}

func TestTheProgramPrintsItsPortFirstAndAnswersThere(t *testing.T) {
	command := pluginProcess(t)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	port, err := net.LookupPort("tcp", strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the first line is no port: %q", line)
	}
	info, err := dial(t, port).GetPluginInfo(deadline(t), &emptypb.Empty{})
	if err != nil || info.Version != provider.Version {
		t.Errorf("%v %v", info, err)
	}
}
