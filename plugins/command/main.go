// Command pulumi-resource-command is a Pulumi plugin that serves the SDK pulumi-command 1.2.1 on
// networks where Pulumi cannot download the published plugin.
//
// Names, defaults, and what create, update, replace and delete mean are those of the published
// plugin, so a program behaves the same on either. What differs is only what made long updates
// unsafe: connections are closed after each command, output lines may have any length, a custom
// timeout or a cancelled update stops the command where it runs, the plugin ends with its engine, and
// the agent of the environment is asked only where a login has neither a key nor a password.
//
// The engine starts it and speaks gRPC with it; `pulumi-resource-command -version` prints the version.
package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/middleware/schema"

	"hardway.invalid/plugins/pulumi-resource-command/local"
	"hardway.invalid/plugins/pulumi-resource-command/output"
	"hardway.invalid/plugins/pulumi-resource-command/remote"
)

// version is the version of the SDK that this plugin serves; the engine matches the two exactly.
// A build may stamp another one with -ldflags "-X main.version=...".
var version = "1.2.1"

func main() {
	if slices.Contains(os.Args[1:], "-version") {
		fmt.Println(version)
		return
	}
	ctx := untilOrphaned(time.Second)
	if err := newProvider().Run(ctx, "command", version); err != nil {
		fmt.Fprintf(os.Stderr, "pulumi-resource-command: %s\n", err)
		os.Exit(1)
	}
}

func newProvider() p.Provider {
	return output.CompareForms(output.KnowSecrets(infer.Provider(infer.Options{
		Metadata: schema.Metadata{
			DisplayName: "Command",
			Description: "Runs commands on this machine or, over SSH, on others, as Pulumi resources.",
			LanguageMap: map[string]any{"python": map[string]any{"respectSchemaVersion": true}},
		},
		Resources: []infer.InferredResource{
			infer.Resource(&remote.Command{}),
			infer.Resource(&remote.CopyToRemote{}),
			infer.Resource(&local.Command{}),
		},
		Functions: []infer.InferredFunction{
			infer.Function(&local.Run{}),
		},
	})))
}
