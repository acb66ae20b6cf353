package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	pschema "github.com/pulumi/pulumi/pkg/v3/codegen/schema"

	"hardway.invalid/plugins/pulumi-resource-libvirt/schema"
)

// surface is the shape of the plugin as the published SDK knows it: see testdata/read_sdk.py.
type surface struct {
	Version   string                     `json:"version"`
	Config    map[string]any             `json:"config"`
	Resources map[string]resourceSurface `json:"resources"`
	Functions map[string]functionSurface `json:"functions"`
}

type resourceSurface struct {
	Inputs  map[string]any `json:"inputs"`
	State   map[string]any `json:"state"`
	Outputs map[string]any `json:"outputs"`
}

type functionSurface struct {
	Inputs  map[string]any `json:"inputs"`
	Outputs map[string]any `json:"outputs"`
}

// newer are members that terraform-provider-libvirt 0.8.3 added after the SDK was made: the SDK never
// sends them and drops them from what it receives.
var newer = map[string][]string{
	"#/types/libvirt:index/DomainNetworkInterface:DomainNetworkInterface": {"private"},
}

func readSDK(t *testing.T) surface {
	t.Helper()
	text, err := os.ReadFile("testdata/sdk-0.5.4.json")
	if err != nil {
		t.Fatal(err)
	}
	var sdk surface
	if err := json.Unmarshal(text, &sdk); err != nil {
		t.Fatal(err)
	}
	return sdk
}

func readSchema(t *testing.T) pschema.PackageSpec {
	t.Helper()
	var specification pschema.PackageSpec
	if err := json.Unmarshal(schemaJSON, &specification); err != nil {
		t.Fatal(err)
	}
	return specification
}

func TestTheCommittedSchemaIsWhatTheProviderGives(t *testing.T) {
	var warnings bytes.Buffer
	fresh, err := schema.Generate(&warnings)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fresh, schemaJSON) {
		t.Error("schema.json is stale: run `go generate ./...` in this folder")
	}
	if warnings.Len() > 0 {
		t.Errorf("the generator complains: %s", warnings.String())
	}
}

func TestTheSchemaIsValid(t *testing.T) {
	_, problems, err := pschema.BindSpec(readSchema(t), nil)
	if err != nil || problems.HasErrors() {
		t.Fatalf("schema does not bind: %v %v", err, problems)
	}
}

func TestEveryResourceOfTheSDKHasEveryPropertyAndNoOther(t *testing.T) {
	sdk, served := readSDK(t), readSchema(t)
	if wanted, got := sorted(sdk.Resources), sorted(served.Resources); !slices.Equal(wanted, got) {
		t.Fatalf("resources: SDK has %v, plugin serves %v", wanted, got)
	}
	for token, wanted := range sdk.Resources {
		t.Run(token, func(t *testing.T) {
			got := served.Resources[token]
			compare(t, "input", wanted.Inputs, shape(t, served, got.InputProperties, got.RequiredInputs))
			compare(t, "output", wanted.Outputs, shape(t, served, got.Properties, got.Required))
			if got.StateInputs == nil {
				t.Fatal("no state inputs: get() of the SDK would fail")
			}
			compare(t, "state", wanted.State, shape(t, served, got.StateInputs.Properties, got.StateInputs.Required))
		})
	}
}

func TestEveryFunctionOfTheSDKHasEveryPropertyAndNoOther(t *testing.T) {
	sdk, served := readSDK(t), readSchema(t)
	if wanted, got := sorted(sdk.Functions), sorted(served.Functions); !slices.Equal(wanted, got) {
		t.Fatalf("functions: SDK has %v, plugin serves %v", wanted, got)
	}
	for token, wanted := range sdk.Functions {
		t.Run(token, func(t *testing.T) {
			got := served.Functions[token]
			inputs := map[string]any{}
			if got.Inputs != nil {
				all := slices.Collect(maps.Keys(got.Inputs.Properties)) // the SDK does not say which it needs
				inputs = shape(t, served, got.Inputs.Properties, all)
			}
			compare(t, "input", wanted.Inputs, inputs)
			result := got.ReturnType.ObjectTypeSpec
			compare(t, "output", wanted.Outputs, shape(t, served, result.Properties, result.Required))
		})
	}
}

func TestTheProviderTakesTheSettingsOfTheSDK(t *testing.T) {
	sdk, served := readSDK(t), readSchema(t)
	provider := served.Provider
	compare(t, "setting", sdk.Config, shape(t, served, provider.InputProperties, provider.RequiredInputs))
	uri := served.Config.Variables["uri"]
	if uri.DefaultInfo == nil || !slices.Equal(uri.DefaultInfo.Environment, []string{"LIBVIRT_DEFAULT_URI"}) {
		t.Errorf("the schema does not take uri from LIBVIRT_DEFAULT_URI: %+v", uri)
	}
}

// shape writes properties as testdata/read_sdk.py does.
func shape(t *testing.T, all pschema.PackageSpec, properties map[string]pschema.PropertySpec, required []string) map[string]any {
	t.Helper()
	table := map[string]any{}
	for name, property := range properties {
		if !slices.Contains(required, name) {
			name += "?"
		}
		table[name] = typeShape(t, all, property.TypeSpec)
	}
	return table
}

func typeShape(t *testing.T, all pschema.PackageSpec, property pschema.TypeSpec) any {
	t.Helper()
	switch {
	case property.Ref != "":
		object, known := all.Types[strings.TrimPrefix(property.Ref, "#/types/")]
		if !known {
			t.Fatalf("the schema names a type that it does not have: %s", property.Ref)
		}
		properties := maps.Clone(object.Properties)
		for _, name := range newer[property.Ref] {
			if _, served := properties[name]; !served {
				t.Errorf("%s has no %s: it is no longer an exception", property.Ref, name)
			}
			delete(properties, name)
		}
		return shape(t, all, properties, object.Required)
	case property.Type == "array":
		return []any{typeShape(t, all, *property.Items)}
	case property.Type == "object":
		return map[string]any{"*": typeShape(t, all, *property.AdditionalProperties)}
	default:
		return property.Type
	}
}

func compare(t *testing.T, kind string, wanted, got map[string]any) {
	t.Helper()
	for _, name := range sorted(wanted) {
		if wanted, got := asJSON(t, wanted[name]), asJSON(t, got[name]); wanted != got {
			t.Errorf("%s %s: SDK has %s, plugin serves %s", kind, name, wanted, got)
		}
	}
	for _, name := range sorted(got) {
		if _, known := wanted[name]; !known {
			t.Errorf("%s %s: the SDK does not have it, plugin serves %s", kind, name, asJSON(t, got[name]))
		}
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s", text)
}

func sorted[V any](table map[string]V) []string {
	return slices.Sorted(maps.Keys(table))
}
