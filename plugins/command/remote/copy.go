package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pkg/sftp"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/infer/types"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hardway.invalid/plugins/pulumi-resource-command/output"
)

// CopyToRemote is a file or folder that is copied to another machine.
type CopyToRemote struct{}

// Annotate gives the resource its text in the schema.
func (c *CopyToRemote) Annotate(a infer.Annotator) {
	a.Describe(&c, "A file or folder that is copied to another machine over SSH.")
}

// CopyInputs are the inputs of a CopyToRemote.
type CopyInputs struct {
	Connection *Connection          `pulumi:"connection"        provider:"secret"`
	Source     types.AssetOrArchive `pulumi:"source"`
	RemotePath string               `pulumi:"remotePath"`
	Triggers   *[]any               `pulumi:"triggers,optional" provider:"replaceOnChanges"`
}

// Annotate gives the inputs their text in the schema.
func (in *CopyInputs) Annotate(a infer.Annotator) {
	a.Describe(&in.Connection, "How to connect to the machine.")
	a.Describe(&in.Source, "What to copy: a file, a text, or an archive by its path. Archives are not unpacked.")
	a.Describe(&in.RemotePath, "Where to put it. Its folder must exist; a file that exists is overwritten, "+
		"and into a folder that exists the source is copied under its own name.")
	a.Describe(&in.Triggers, "Values of any kind; a change of one replaces the resource.")
}

// CopyOutputs are the inputs: a copy has nothing else to say.
type CopyOutputs struct{ CopyInputs }

// Check refuses sources that cannot be copied as they are.
func (*CopyToRemote) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[CopyInputs], error) {
	inputs, failures, err := infer.DefaultCheck[CopyInputs](ctx, req.NewInputs)
	if err == nil && len(failures) == 0 {
		if reason := inputs.refusal(); reason != "" {
			failures = append(failures, p.CheckFailure{Property: "source", Reason: reason})
		}
	}
	return infer.CheckResponse[CopyInputs]{Inputs: inputs, Failures: failures}, err
}

func (in *CopyInputs) refusal() string {
	asset, archive := in.Source.Asset, in.Source.Archive
	switch {
	case asset == nil && archive == nil:
		return "give an asset or an archive"
	case asset != nil && archive != nil:
		return "give either an asset or an archive"
	case asset != nil && !asset.IsPath() && !asset.IsText():
		return "an asset must be a file (FileAsset) or a text (StringAsset)"
	case archive != nil && !archive.IsPath():
		return "an archive must be given by the path of a file or folder (FileArchive)"
	}
	return ""
}

// Create copies the source.
func (*CopyToRemote) Create(
	ctx context.Context, req infer.CreateRequest[CopyInputs],
) (infer.CreateResponse[CopyOutputs], error) {
	response := infer.CreateResponse[CopyOutputs]{Output: CopyOutputs{req.Inputs}}
	if req.DryRun {
		return response, nil
	}
	if err := req.Inputs.copy(ctx); err != nil {
		return response, err
	}
	var err error
	response.ID, err = resource.NewUniqueHex("", 8, 0)
	return response, err
}

// Update copies again if the source's digest or the place has changed, and otherwise only remembers
// the new inputs.
func (*CopyToRemote) Update(
	ctx context.Context, req infer.UpdateRequest[CopyInputs, CopyOutputs],
) (infer.UpdateResponse[CopyOutputs], error) {
	response := infer.UpdateResponse[CopyOutputs]{Output: CopyOutputs{req.Inputs}}
	moved := req.Inputs.RemotePath != req.State.RemotePath
	if req.DryRun || !moved && req.Inputs.digest() == req.State.digest() {
		return response, nil
	}
	return response, req.Inputs.copy(ctx)
}

func (in *CopyInputs) digest() string {
	if in.Source.Archive != nil {
		return in.Source.Archive.Hash
	}
	return in.Source.Asset.Hash
}

func (in *CopyInputs) copy(ctx context.Context) error {
	what := fmt.Sprintf("the copy to %s:%s", &in.Connection.Endpoint, in.RemotePath)
	started := time.Now()
	login, err := in.Connection.open(ctx)
	if err == nil {
		defer login.Close()
		release := context.AfterFunc(ctx, login.Close)
		defer release()
		err = in.send(login)
	}
	if err != nil && ctx.Err() != nil {
		return output.Stopped(ctx, what, started)
	}
	if err != nil {
		return fmt.Errorf("%s failed: %w", what, err)
	}
	return nil
}

func (in *CopyInputs) send(login *login) error {
	// A failed write may leave a longer file than was written; the error then fails the resource, and
	// the next run writes the file anew.
	client, err := sftp.NewClient(login.Client, sftp.UseConcurrentWrites(true))
	if err != nil {
		return fmt.Errorf("the machine offers no SFTP: %w", err)
	}
	defer func() { _ = client.Close() }()
	target := &target{client}
	if asset := in.Source.Asset; asset != nil && asset.IsText() {
		return target.text(asset.Text, in.RemotePath)
	}
	source := ""
	if in.Source.Asset != nil {
		source = in.Source.Asset.Path
	} else {
		source = in.Source.Archive.Path
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return target.folder(source, in.RemotePath)
	}
	return target.file(source, in.RemotePath)
}

// target is the file system of the other machine.
type target struct{ client *sftp.Client }

// stat returns nil for a path that does not exist.
func (t *target) stat(name string) (fs.FileInfo, error) {
	info, err := t.client.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("remote path %s: %w", name, err)
	}
	return info, nil
}

func (t *target) text(text, name string) error {
	info, err := t.stat(name)
	if err != nil {
		return err
	}
	if info != nil && info.IsDir() {
		return fmt.Errorf("remote path %s is a folder: a text needs the path of a file", name)
	}
	return t.write(strings.NewReader(text), name)
}

// file copies a file to name, or into the folder name.
func (t *target) file(source, name string) error {
	info, err := t.stat(name)
	if err != nil {
		return err
	}
	if info != nil && info.IsDir() {
		name = path.Join(name, filepath.Base(source))
	}
	return t.fileTo(source, name)
}

// folder copies the contents of a folder into the folder name if source ends with a slash, else into
// a folder of the source's own name there.
func (t *target) folder(source, name string) error {
	if err := t.makeFolder(name); err != nil {
		return err
	}
	if !strings.HasSuffix(source, "/") {
		name = path.Join(name, filepath.Base(source))
	}
	return fs.WalkDir(os.DirFS(source), ".", func(entry string, info fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info.IsDir() {
			return t.makeFolder(path.Join(name, entry))
		}
		return t.fileTo(filepath.Join(source, entry), path.Join(name, entry))
	})
}

func (t *target) makeFolder(name string) error {
	info, err := t.stat(name)
	if err != nil {
		return err
	}
	if info == nil {
		if err := t.client.Mkdir(name); err != nil {
			return fmt.Errorf("remote folder %s cannot be made: %w", name, err)
		}
		return nil
	}
	if !info.IsDir() {
		return fmt.Errorf("remote path %s exists and is not a folder", name)
	}
	return nil
}

func (t *target) fileTo(source, name string) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return t.write(file, name)
}

func (t *target) write(from io.Reader, name string) error {
	file, err := t.client.Create(name)
	if err != nil {
		return fmt.Errorf("remote file %s cannot be written: %w", name, err)
	}
	_, err = file.ReadFrom(from)
	// What is copied outlasts a loss of power, where the server knows how, as OpenSSH's does.
	if _, can := t.client.HasExtension("fsync@openssh.com"); err == nil && can {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("remote file %s was not written whole: %w", name, err)
	}
	return nil
}

var (
	_ infer.CustomCheck[CopyInputs]               = (*CopyToRemote)(nil)
	_ infer.CustomUpdate[CopyInputs, CopyOutputs] = (*CopyToRemote)(nil)
)
