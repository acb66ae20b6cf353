#!/usr/bin/env bash
# gocloud.dev 0.46.0, blob/fileblob: a file is replaced by a rename, so a reader gets the old one or the new one.
# Its attributes, which lie beside it in FILE.attrs unless the bucket is opened with `metadata=skip`, are written
# in place before that, and every read decodes them first. So who reads a file that is just being replaced gets
# "EOF", and where the writer is killed at that moment the file is whole and can never be read again, until
# somebody removes the empty FILE.attrs. Pulumi keeps the state of stacks in such a bucket (`file://`): that is
# its "failed to load checkpoint: EOF" after a kill, with a state that is undamaged.
#
# Here a file is replaced and read at the same time, for 20,000 reads at most; then its attributes are emptied, as
# a kill leaves them. Seen:
#   with attributes: some reads fail with EOF
#   with empty attributes: the whole file is not read: EOF
#   with metadata=skip: no read fails
#
# Open such a bucket with `metadata=skip`; for Pulumi, PULUMI_BACKEND_URL='file:///DIRECTORY?metadata=skip'.
#
# Needs Go 1.26.
set -euo pipefail

folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
export GOFLAGS=-mod=mod GOTOOLCHAIN=local

cat >go.mod <<'MODULE'
module example.invalid/fileblob

go 1.26

require gocloud.dev v0.46.0
MODULE

cat >main.go <<'PROGRAM'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob"
)

const name = "state.json"

func opened(url string) *blob.Bucket {
	bucket, err := blob.OpenBucket(context.Background(), url)
	if err != nil {
		panic(err)
	}
	return bucket
}

// ends reads the file while it is replaced, and counts the reads that end with EOF.
func ends(url string) int {
	reader, writer := opened(url), opened(url)
	write := func() {
		if err := writer.WriteAll(context.Background(), name, []byte("{}"), nil); err != nil {
			panic(err)
		}
	}
	write()
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			write()
		}
	}()
	count := 0
	for number := 0; number < 20000 && count < 3; number++ {
		if _, err := reader.ReadAll(context.Background(), name); errors.Is(err, io.EOF) {
			count++
		}
	}
	over.Store(true)
	<-done
	return count
}

func main() {
	url := "file://" + os.Args[1]
	if ends(url+"?no_tmp_dir=true") > 0 {
		fmt.Println("with attributes: some reads fail with EOF")
	}
	if err := os.Truncate(os.Args[1]+"/"+name+".attrs", 0); err != nil {
		panic(err)
	}
	if _, err := opened(url).ReadAll(context.Background(), name); errors.Is(err, io.EOF) {
		fmt.Println("with empty attributes: the whole file is not read: EOF")
	}
	if err := os.Remove(os.Args[1] + "/" + name + ".attrs"); err != nil {
		panic(err)
	}
	if ends(url+"?no_tmp_dir=true&metadata=skip") == 0 {
		fmt.Println("with metadata=skip: no read fails")
	}
}
PROGRAM

mkdir bucket
seen=$(go run . "$folder/bucket" 2>log) || {
    cat log >&2
    exit 1
}
expected='with attributes: some reads fail with EOF
with empty attributes: the whole file is not read: EOF
with metadata=skip: no read fails'
echo "$seen"
if [ "$seen" != "$expected" ]; then
    echo "This has changed; expected was:
$expected" >&2
    exit 1
fi
