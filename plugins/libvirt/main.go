// Command pulumi-resource-libvirt is the provider plugin behind the Python SDK pulumi-libvirt 0.5.4,
// for networks where Pulumi cannot download the published one. The engine starts it and speaks gRPC
// with it; `pulumi-resource-libvirt -version` prints the version.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"

	"hardway.invalid/plugins/pulumi-resource-libvirt/provider"
)

//go:generate go run ./schema/write schema.json

//go:embed schema.json
var schemaJSON []byte

func main() {
	tfbridge.Main(provider.Name, provider.Version, provider.Info(), schemaJSON)
}
