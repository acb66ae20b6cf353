package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/structpb"
)

// published is a resource in the state of a stack that the published plugin made.
type published struct {
	Type, ID                 string
	Program, Inputs, Outputs map[string]any
}

func publishedResources(t *testing.T) []published {
	t.Helper()
	text, err := os.ReadFile("testdata/published.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Resources []published }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Resources) != len(expectedResources) {
		t.Fatalf("%d resources, and the plugin has %d types", len(file.Resources), len(expectedResources))
	}
	return file.Resources
}

func wire(t *testing.T, properties map[string]any) *structpb.Struct {
	t.Helper()
	result, err := structpb.NewStruct(properties)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// checkedAndCompared is what the engine does in a preview: check the program's inputs, and compare them
// with the state.
func checkedAndCompared(
	t *testing.T, one published, oldInputs, state *structpb.Struct,
) (resource.PropertyMap, *pulumirpc.DiffResponse) {
	t.Helper()
	e := newEngine(t)
	checked, err := e.plugin.Check(context.Background(), &pulumirpc.CheckRequest{
		Urn: urn(one.Type), Olds: oldInputs, News: wire(t, one.Program),
	})
	if err != nil || len(checked.GetFailures()) > 0 {
		t.Fatalf("check failed: %v %v", err, checked.GetFailures())
	}
	compared, err := e.plugin.Diff(context.Background(), &pulumirpc.DiffRequest{
		Id: one.ID, Urn: urn(one.Type), Olds: state, OldInputs: oldInputs, News: checked.GetInputs(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return unmarshal(t, checked.GetInputs()), compared
}

func (one published) state(t *testing.T) *structpb.Struct {
	t.Helper()
	state := maps.Clone(one.Inputs)
	maps.Copy(state, one.Outputs)
	return wire(t, state)
}

func TestWhatThePublishedPluginKeptIsKeptByThisOneToo(t *testing.T) {
	t.Parallel()
	for _, one := range publishedResources(t) {
		t.Run(one.Type, func(t *testing.T) {
			t.Parallel()
			inputs, compared := checkedAndCompared(t, one, wire(t, one.Inputs), one.state(t))
			if expected := unmarshal(t, wire(t, one.Inputs)); !inputs.DeepEquals(expected) {
				t.Errorf("inputs: got %v, want %v", inputs, expected)
			}
			mustEqual(t, "changes", compared.GetChanges(), pulumirpc.DiffResponse_DIFF_NONE)
		})
	}
}

// Earlier builds kept credentials as text within the secret connection, and wrote the
// default of addPreviousOutputInEnv down.
func TestStacksOfEarlierBuildsChangeNothing(t *testing.T) {
	t.Parallel()
	for _, one := range publishedResources(t) {
		t.Run(one.Type, func(t *testing.T) {
			t.Parallel()
			earlier := one
			earlier.Inputs = maps.Clone(one.Inputs)
			if connection, ok := one.Inputs["connection"].(map[string]any); ok {
				inner := revealed(connection["value"]).(map[string]any)
				connection = maps.Clone(connection)
				connection["value"] = inner
				earlier.Inputs["connection"] = connection
			}
			if one.Type != copyToRemote {
				earlier.Inputs["addPreviousOutputInEnv"] = true
			}
			_, compared := checkedAndCompared(t, one, wire(t, earlier.Inputs), earlier.state(t))
			mustEqual(t, "changes", compared.GetChanges(), pulumirpc.DiffResponse_DIFF_NONE)
		})
	}
}

// revealed is a value without what marks its parts as secret.
func revealed(value any) any {
	parts, ok := value.(map[string]any)
	if !ok {
		return value
	}
	if inner, ok := parts["value"]; ok && parts[resource.SigKey] == resource.SecretSig {
		return revealed(inner)
	}
	result := map[string]any{}
	for name, part := range parts {
		result[name] = revealed(part)
	}
	return result
}

func TestAnotherKeyOrAConnectionThatBecomesSecretIsAChange(t *testing.T) {
	t.Parallel()
	one := publishedResources(t)[0]
	connection := one.Inputs["connection"].(map[string]any)
	other := maps.Clone(revealed(connection).(map[string]any))
	other["privateKey"] = "another key"
	for what, old := range map[string]any{
		"another key":   map[string]any{resource.SigKey: resource.SecretSig, "value": other},
		"a plain value": revealed(connection),
	} {
		changed := one
		changed.Inputs = maps.Clone(one.Inputs)
		changed.Inputs["connection"] = old
		_, compared := checkedAndCompared(t, one, wire(t, changed.Inputs), changed.state(t))
		mustEqual(t, what, compared.GetChanges(), pulumirpc.DiffResponse_DIFF_SOME)
	}
}
