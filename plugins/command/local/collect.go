package local

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/gobwas/glob"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// collect finds the files that the program asked for in dir.
func collect(dir string, in *BaseInputs, out *BaseOutputs) error {
	if in.AssetPaths != nil {
		assets, err := find(dir, *in.AssetPaths)
		if err != nil {
			return fmt.Errorf("assetPaths: %w", err)
		}
		out.Assets = &assets
	}
	if in.ArchivePaths != nil {
		assets, err := find(dir, *in.ArchivePaths)
		if err != nil {
			return fmt.Errorf("archivePaths: %w", err)
		}
		contents := make(map[string]any, len(assets))
		for name, asset := range assets {
			contents[name] = asset
		}
		if out.Archive, err = resource.NewAssetArchive(contents); err != nil {
			return fmt.Errorf("archivePaths: %w", err)
		}
	}
	return nil
}

// rule is one pattern; a later rule overrides the earlier ones.
type rule struct {
	pattern glob.Glob
	exclude bool
}

func find(dir string, patterns []string) (map[string]*resource.Asset, error) {
	rules := make([]rule, 0, len(patterns))
	for _, text := range patterns {
		text, exclude := strings.CutPrefix(text, "!")
		pattern, err := glob.Compile(text, '/')
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}
		rules = append(rules, rule{pattern, exclude})
	}
	found := map[string]*resource.Asset{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !wanted(rules, name) {
			return err
		}
		found[name], err = resource.NewPathAsset(path.Join(dir, name))
		return err
	})
	return found, err
}

func wanted(rules []rule, name string) bool {
	result := false
	for _, rule := range rules {
		if rule.pattern.Match(name) {
			result = !rule.exclude
		}
	}
	return result
}
