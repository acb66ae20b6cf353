// Command write puts the schema of the plugin into the file that its one argument names.
package main

import (
	"fmt"
	"os"

	"hardway.invalid/plugins/pulumi-resource-libvirt/schema"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: write FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "schema not written:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	text, err := schema.Generate(os.Stderr)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
