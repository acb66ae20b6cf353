package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestMakesAFolderForEveryUserOnce(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(t.TempDir(), "volume")
	for range 2 {
		if err := act("create", path, "Filesystem"); err != nil {
			t.Fatal(err)
		}
		status, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if status.Mode().Perm() != 0o777 {
			t.Fatalf("wanted mode 0777, got %o", status.Mode().Perm())
		}
		if err := os.WriteFile(filepath.Join(path, "data"), []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if content, err := os.ReadFile(filepath.Join(path, "data")); err != nil || string(content) != "kept" {
		t.Fatalf("the second run changed the data: %q, %v", content, err)
	}
}

func TestRemovesAFolderWithAllThatIsInIt(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "volume")
	for _, name := range []string{"volume/a/b", "another"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := act("delete", path, "Filesystem"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Fatalf("the folder is still there: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "another")); err != nil {
		t.Fatalf("another folder is gone: %v", err)
	}
}

func TestRefusesWhatItCannotMake(t *testing.T) {
	folder := t.TempDir()
	for _, wrong := range [][3]string{
		{"create", "volume", "Filesystem"},
		{"create", "", "Filesystem"},
		{"delete", "/volume", "Filesystem"},
		{"delete", "/", "Filesystem"},
		{"create", filepath.Join(folder, "volume"), "Block"},
		{"", filepath.Join(folder, "volume"), "Filesystem"},
		{"create", filepath.Join(folder, "none", "volume"), "Filesystem"},
	} {
		if err := act(wrong[0], wrong[1], wrong[2]); err == nil {
			t.Errorf("%v was not refused", wrong)
		}
	}
}
