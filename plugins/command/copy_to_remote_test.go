package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

func fileAsset(t *testing.T, path string) *resource.Asset {
	t.Helper()
	asset, err := resource.NewPathAsset(path)
	if err != nil {
		t.Fatal(err)
	}
	return asset
}

func textAsset(t *testing.T, text string) *resource.Asset {
	t.Helper()
	asset, err := resource.NewTextAsset(text)
	if err != nil {
		t.Fatal(err)
	}
	return asset
}

func fileArchive(t *testing.T, path string) *resource.Archive {
	t.Helper()
	archive, err := resource.NewPathArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tree lists the files below dir with what is in them.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		found = append(found, name+"="+string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(found)
	return strings.Join(found, " ")
}

func TestCopyPutsFilesTextsAndFoldersWhereThePublishedOneDoes(t *testing.T) {
	t.Parallel()
	server, from := startSSH(t), t.TempDir()
	file := write(t, filepath.Join(from, "file"), "content")
	folder := filepath.Join(from, "folder")
	write(t, filepath.Join(folder, "a"), "1")
	write(t, filepath.Join(folder, "deep", "b"), "2")
	for name, c := range map[string]struct {
		source any
		to     string
		before map[string]string
		want   string
	}{
		"a file to a new path":            {fileAsset(t, file), "new", nil, "new=content"},
		"a file over a file":              {fileAsset(t, file), "old", map[string]string{"old": "long before"}, "old=content"},
		"a file into a folder":            {fileAsset(t, file), "", nil, "file=content"},
		"a text to a new path":            {textAsset(t, "words"), "new", nil, "new=words"},
		"an archive file as it is":        {fileArchive(t, tarball(t, from)), "a.tar", nil, "a.tar=not unpacked"},
		"a folder into a folder":          {fileArchive(t, folder), "", nil, "folder/a=1 folder/deep/b=2"},
		"a folder to a new path":          {fileArchive(t, folder), "new", nil, "new/folder/a=1 new/folder/deep/b=2"},
		"a folder's contents to a folder": {fileArchive(t, folder+"/"), "", map[string]string{"a": "0", "c": "3"}, "a=1 c=3 deep/b=2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, to := newEngine(t), t.TempDir()
			for path, text := range c.before {
				write(t, filepath.Join(to, path), text)
			}
			e.mustCreate(copyToRemote, values{
				"connection": server.connection(), "source": c.source, "remotePath": filepath.Join(to, c.to),
			})
			mustEqual(t, "files", tree(t, to), c.want)
		})
	}
	t.Cleanup(server.waitUntilUnused)
}

func tarball(t *testing.T, dir string) string {
	t.Helper()
	return write(t, filepath.Join(dir, "a.tar"), "not unpacked")
}

func TestCopyHappensAgainOnlyForAnotherContentOrPlace(t *testing.T) {
	t.Parallel()
	e, server, to := newEngine(t), startSSH(t), t.TempDir()
	inputs := values{
		"connection": server.connection(), "source": textAsset(t, "one"), "remotePath": filepath.Join(to, "a"),
	}
	step := e.mustCreate(copyToRemote, inputs, inPreview)
	mustEqual(t, "connections of a preview", server.accepted.Load(), 0)
	step = e.mustCreate(copyToRemote, inputs)
	inputs["connection"] = server.connection(values{"perDialTimeout": 9})
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "logins after a changed connection", server.logins.Load(), 1)
	inputs["source"] = textAsset(t, "two")
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "files", tree(t, to), "a=two")
	inputs["remotePath"] = filepath.Join(to, "b")
	if err := e.update(step, inputs); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "files", tree(t, to), "a=two b=two")
	inputs["triggers"] = []any{1}
	mustEqual(t, "replaced by", strings.Join(e.diff(step, inputs).GetReplaces(), " "), "triggers")
	if err := e.delete(step); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "files after delete", tree(t, to), "a=two b=two")
	mustEqual(t, "the connection is secret in the state", unmarshal(t, step.state)["connection"].IsSecret(), true)
	server.waitUntilUnused()
}

func TestCopyThatCannotWorkSaysWhy(t *testing.T) {
	t.Parallel()
	e, server, to := newEngine(t), startSSH(t), t.TempDir()
	attempt := func(server *sshServer, source any, path string) error {
		_, err := e.create(copyToRemote, values{"connection": server.connection(), "source": source, "remotePath": path})
		return err
	}
	folder := t.TempDir()
	mustFail(t, attempt(server, textAsset(t, "x"), to), "is a folder", to)
	mustFail(t, attempt(server, textAsset(t, "x"), to+"/missing/x"), "cannot be written", to+"/missing/x")
	mustFail(t, attempt(server, fileAsset(t, write(t, folder+"/f", "f")), to+"/missing/x"), "cannot be written", "127.0.0.1")
	mustFail(t, attempt(server, fileArchive(t, folder), write(t, to+"/file", "")), "is not a folder", to+"/file")
	bare := startSSH(t, func(s *sshServer) { s.noSFTP = true })
	mustFail(t, attempt(bare, textAsset(t, "x"), to+"/x"), "no SFTP")
	server.waitUntilUnused()
	bare.waitUntilUnused()

	assets, err := resource.NewAssetArchive(map[string]any{"a": textAsset(t, "a")})
	if err != nil {
		t.Fatal(err)
	}
	uri := &resource.Asset{Sig: resource.AssetSig, URI: "https://example.invalid/file"}
	for _, source := range []any{assets, uri} {
		_, failures := e.check(copyToRemote, values{
			"connection": server.connection(), "source": source, "remotePath": to + "/x",
		})
		if len(failures) != 1 || failures[0].GetProperty() != "source" {
			t.Errorf("%v: the failures of check are %v", source, failures)
		}
	}
}

func TestCopyStopsAtTheTimeout(t *testing.T) {
	t.Parallel()
	e, server := newEngine(t), startSSH(t, func(s *sshServer) { s.authorized = nil })
	_, err := e.create(copyToRemote, values{
		"connection": server.connection(values{"dialErrorLimit": -1}), "source": textAsset(t, "x"), "remotePath": "/x",
	}, withTimeout(1))
	mustFail(t, err, "the copy to", "stopped after 1")
}
