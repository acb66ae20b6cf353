// Command volume-folder makes or removes the folder of a volume on a node. local-path-provisioner runs
// it in a pod on that node, in the place of its shell scripts.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// version is set by the linker.
var version = "unknown"

func main() {
	showVersion := flag.Bool("version", false, "print the version and exit")
	path := flag.String("p", "", "the path of the volume's folder")
	_ = flag.String("s", "", "the size of the claim in bytes, which nothing enforces")
	mode := flag.String("m", "Filesystem", "the mode of the volume")
	action := flag.String("a", "", "create or delete")
	flag.Parse()
	if *showVersion {
		fmt.Println("volume-folder", version)
		return
	}
	if err := act(*action, *path, *mode); err != nil {
		fmt.Fprintln(os.Stderr, "volume-folder:", err)
		os.Exit(1)
	}
}

// act makes or removes a folder; the folder above it exists. Done twice it changes nothing.
func act(action, path, mode string) error {
	if !filepath.IsAbs(path) || filepath.Dir(filepath.Clean(path)) == "/" {
		return fmt.Errorf("%q is no absolute path of a folder in another one", path)
	}
	if mode != "Filesystem" {
		return fmt.Errorf("a volume of the mode %s cannot be a folder; ask for Filesystem", mode)
	}
	switch action {
	case "create":
		if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		// Pods of any user write to it; the umask must not narrow that.
		return os.Chmod(path, 0o777)
	case "delete":
		return os.RemoveAll(path)
	}
	return fmt.Errorf("%q is no action: create or delete", action)
}
