package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// The names in this file were written from the wheel pulumi-command 1.2.1, as they go over the wire.
// "name!" is required, "name=value" has a default.

var connectionProperties = "agentSocketPath dialErrorLimit=10 host! hostKey password perDialTimeout=15 port=22 " +
	"privateKey privateKeyPassword user=root"

// The published plugin marks these in the types too, since pull request 790 of its repository.
var credentials = []string{"password", "privateKey", "privateKeyPassword"}

var expectedTypes = map[string]string{
	"command:remote:Connection":      connectionProperties + " proxy",
	"command:remote:ProxyConnection": connectionProperties,
	"command:remote:Logging":         "none stderr stdout stdoutAndStderr",
	"command:local:Logging":          "none stderr stdout stdoutAndStderr",
}

type properties struct{ inputs, outputs string }

var expectedResources = map[string]properties{
	"command:remote:Command": {
		inputs: "addPreviousOutputInEnv connection! create delete environment logging stdin triggers update",
		outputs: "addPreviousOutputInEnv connection! create delete environment logging stderr! stdin stdout! " +
			"triggers update",
	},
	"command:remote:CopyToRemote": {
		inputs:  "connection! remotePath! source! triggers",
		outputs: "connection! remotePath! source! triggers",
	},
	"command:local:Command": {
		inputs: "addPreviousOutputInEnv archivePaths assetPaths create delete dir environment interpreter " +
			"logging stdin triggers update",
		outputs: "addPreviousOutputInEnv archive archivePaths assetPaths assets create delete dir environment " +
			"interpreter logging stderr! stdin stdout! triggers update",
	},
}

var expectedRun = properties{
	inputs: "addPreviousOutputInEnv archivePaths assetPaths command! dir environment interpreter logging stdin",
	outputs: "addPreviousOutputInEnv archive archivePaths assetPaths assets command! dir environment interpreter " +
		"logging stderr! stdin stdout!",
}

func described(specs map[string]schema.PropertySpec, required []string, withDefaults bool) string {
	var words []string
	for name, spec := range specs {
		if slices.Contains(required, name) {
			name += "!"
		}
		if withDefaults && spec.Default != nil {
			name += fmt.Sprintf("=%v", spec.Default)
		}
		words = append(words, name)
	}
	return sorted(words)
}

func sorted(words []string) string { sort.Strings(words); return strings.Join(words, " ") }

func TestSchemaServesTheSDK(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	response, err := e.plugin.GetSchema(context.Background(), &pulumirpc.GetSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var spec schema.PackageSpec
	if err := json.Unmarshal([]byte(response.GetSchema()), &spec); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "name and version", spec.Name+" "+spec.Version, "command 1.2.1")

	mustEqual(t, "number of resources", len(spec.Resources), len(expectedResources))
	for token, expected := range expectedResources {
		got := spec.Resources[token]
		mustEqual(t, token+" inputs",
			described(got.InputProperties, got.RequiredInputs, true), sorted(strings.Fields(expected.inputs)))
		mustEqual(t, token+" outputs",
			described(got.Properties, got.Required, false), sorted(strings.Fields(expected.outputs)))
		for name, property := range got.InputProperties {
			mustEqual(t, token+"."+name+" is secret", property.Secret, name == "connection")
			mustEqual(t, token+"."+name+" replaces", property.ReplaceOnChanges, name == "triggers")
		}
	}

	mustEqual(t, "number of types", len(spec.Types), len(expectedTypes))
	for token, expected := range expectedTypes {
		got := spec.Types[token]
		words := described(got.Properties, got.Required, true)
		for name, property := range got.Properties {
			mustEqual(t, token+"."+name+" is secret", property.Secret, slices.Contains(credentials, name))
		}
		for _, value := range got.Enum {
			words += " " + fmt.Sprint(value.Value)
		}
		mustEqual(t, token, sorted(strings.Fields(words)), sorted(strings.Fields(expected)))
	}

	run := spec.Functions["command:local:run"]
	mustEqual(t, "inputs of run", described(run.Inputs.Properties, run.Inputs.Required, true),
		sorted(strings.Fields(expectedRun.inputs)))
	outputs := run.Outputs
	if outputs == nil {
		outputs = run.ReturnType.ObjectTypeSpec
	}
	mustEqual(t, "outputs of run", described(outputs.Properties, outputs.Required, false),
		sorted(strings.Fields(expectedRun.outputs)))
}

func TestPluginTellsTheVersionOfTheSDK(t *testing.T) {
	t.Parallel()
	info, err := newEngine(t).plugin.GetPluginInfo(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "version", info.GetVersion(), "1.2.1")
}
