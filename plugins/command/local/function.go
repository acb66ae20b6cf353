package local

import (
	"context"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/infer/types"
)

// Run is the function that runs a command at every preview and update.
type Run struct{}

// Annotate gives the function its text in the schema.
func (r *Run) Annotate(a infer.Annotator) {
	a.Describe(&r, "Runs a command on this machine, at every preview as well as at every update.")
}

// RunInputs are the inputs of Run.
type RunInputs struct {
	BaseInputs
	Command string `pulumi:"command"`
}

// Annotate gives the inputs their text in the schema.
func (in *RunInputs) Annotate(a infer.Annotator) { a.Describe(&in.Command, "The command to run.") }

// RunOutputs are the inputs and what the command left behind. They are BaseOutputs in all but the Go
// types of the files: the schema of a function takes no others.
type RunOutputs struct {
	RunInputs
	Stdout  string                           `pulumi:"stdout"`
	Stderr  string                           `pulumi:"stderr"`
	Assets  *map[string]types.AssetOrArchive `pulumi:"assets,optional"`
	Archive *types.AssetOrArchive            `pulumi:"archive,optional"`
}

// Invoke runs the command.
func (*Run) Invoke(
	ctx context.Context, req infer.FunctionRequest[RunInputs],
) (infer.FunctionResponse[RunOutputs], error) {
	var left BaseOutputs
	if err := run(ctx, &req.Input.Command, &req.Input.BaseInputs, &left); err != nil {
		return infer.FunctionResponse[RunOutputs]{}, err
	}
	result := RunOutputs{RunInputs: req.Input, Stdout: left.Stdout, Stderr: left.Stderr}
	if left.Assets != nil {
		assets := make(map[string]types.AssetOrArchive, len(*left.Assets))
		for name, asset := range *left.Assets {
			assets[name] = types.AssetOrArchive{Asset: asset}
		}
		result.Assets = &assets
	}
	if left.Archive != nil {
		result.Archive = &types.AssetOrArchive{Archive: left.Archive}
	}
	return infer.FunctionResponse[RunOutputs]{Output: result}, nil
}
