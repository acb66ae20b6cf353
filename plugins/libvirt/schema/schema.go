// Package schema derives the Pulumi schema of the plugin from the bridged provider. Only `go
// generate` and the tests use it: the plugin itself carries the result, schema.json.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfgen"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"

	"hardway.invalid/plugins/pulumi-resource-libvirt/provider"
)

// Generate returns the schema as indented JSON without its prose. It needs no network.
func Generate(warnings io.Writer) ([]byte, error) {
	sink := diag.DefaultSink(warnings, warnings, diag.FormatOptions{Color: colors.Never})
	result, err := tfgen.GenerateSchemaWithOptions(tfgen.GenerateSchemaOptions{
		ProviderInfo:    provider.Info(),
		DiagnosticsSink: sink,
		XInMemoryDocs:   true, // or the generator looks for a documentation folder to read
	})
	if err != nil {
		return nil, fmt.Errorf("bridge cannot describe the provider: %w", err)
	}
	return withoutProse(result.PackageSpec)
}

// withoutProse leaves what the engine reads: neither texts for people nor hints for SDK generators.
func withoutProse(specification any) ([]byte, error) {
	text, err := json.Marshal(specification)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	delete(tree, "attribution")
	delete(tree, "language")
	dropDescriptions(tree)
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	err = encoder.Encode(tree)
	return out.Bytes(), err
}

// dropDescriptions removes every description, but not a property that has that name: that is an object.
func dropDescriptions(node any) {
	switch node := node.(type) {
	case map[string]any:
		if _, prose := node["description"].(string); prose {
			delete(node, "description")
		}
		for _, child := range node {
			dropDescriptions(child)
		}
	case []any:
		for _, child := range node {
			dropDescriptions(child)
		}
	}
}
