// Package local holds the resource and the function that run commands on this machine.
package local

import (
	"context"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hardway.invalid/plugins/pulumi-resource-command/output"
)

// Logging chooses the streams that are shown while a command runs.
type Logging string

// Values lists the choices.
func (Logging) Values() []infer.EnumValue[Logging] { return output.LoggingValues[Logging]() }

// Command is a command that runs on this machine when the resource is created, updated or deleted.
type Command struct{}

// Annotate gives the resource its text in the schema.
func (c *Command) Annotate(a infer.Annotator) {
	a.Describe(&c, "A command that runs on this machine.")
}

// BaseInputs say how a command runs; the resource and the function share them.
type BaseInputs struct {
	Interpreter            *[]string          `pulumi:"interpreter,optional"`
	Dir                    *string            `pulumi:"dir,optional"`
	Environment            *map[string]string `pulumi:"environment,optional"`
	Stdin                  *string            `pulumi:"stdin,optional"`
	Logging                *Logging           `pulumi:"logging,optional"`
	AssetPaths             *[]string          `pulumi:"assetPaths,optional"`
	ArchivePaths           *[]string          `pulumi:"archivePaths,optional"`
	AddPreviousOutputInEnv *bool              `pulumi:"addPreviousOutputInEnv,optional"`
}

// Annotate gives the inputs their defaults and their text in the schema.
func (in *BaseInputs) Annotate(a infer.Annotator) {
	a.Describe(&in.Interpreter, "The program and its arguments that get the command as their last one. Defaults to /bin/sh -c.")
	a.Describe(&in.Dir, "The folder to run in, which must exist. Defaults to the Pulumi program's.")
	a.Describe(&in.Environment, "Environment variables for the command, besides those of this process.")
	a.Describe(&in.Stdin, "The text that the command reads as its standard input.")
	a.Describe(&in.Logging, "What is shown while the command runs. Defaults to stdout and stderr; outputs hold both in any case.")
	paths := "Patterns of files, relative to the folder, to return once the command has run: * stops at a slash, " +
		"** does not, a pattern that begins with ! takes out what those before it found."
	a.Describe(&in.AssetPaths, "As assets. "+paths)
	a.Describe(&in.ArchivePaths, "As one archive. "+paths)
	a.Describe(&in.AddPreviousOutputInEnv, "Whether the command finds the previous outputs in "+
		"PULUMI_COMMAND_STDOUT and PULUMI_COMMAND_STDERR. Defaults to true.")
}

// BaseOutputs are what a command left behind.
type BaseOutputs struct {
	Stdout  string                      `pulumi:"stdout"`
	Stderr  string                      `pulumi:"stderr"`
	Assets  *map[string]*resource.Asset `pulumi:"assets,optional"`
	Archive *resource.Archive           `pulumi:"archive,optional"`
}

// Annotate gives the outputs their text in the schema.
func (out *BaseOutputs) Annotate(a infer.Annotator) {
	a.Describe(&out.Stdout, "What the command wrote to its standard output.")
	a.Describe(&out.Stderr, "What the command wrote to its standard error.")
	a.Describe(&out.Assets, "The files that assetPaths found, by their path in the folder.")
	a.Describe(&out.Archive, "The files that archivePaths found.")
}

// CommandInputs are the inputs of a Command.
type CommandInputs struct {
	BaseInputs
	Create   *string `pulumi:"create,optional"`
	Update   *string `pulumi:"update,optional"`
	Delete   *string `pulumi:"delete,optional"`
	Triggers *[]any  `pulumi:"triggers,optional" provider:"replaceOnChanges"`
}

// Annotate gives the inputs their text in the schema.
func (in *CommandInputs) Annotate(a infer.Annotator) {
	a.Describe(&in.Create, "The command to run when the resource is created, and when it is updated and there is no update.")
	a.Describe(&in.Update, "The command to run when an input has changed. Defaults to create.")
	a.Describe(&in.Delete, "The command to run when the resource is deleted.")
	a.Describe(&in.Triggers, "Values of any kind; a change of one replaces the resource.")
}

// CommandOutputs are the inputs, which delete needs later, and what the command left behind.
type CommandOutputs struct {
	CommandInputs
	BaseOutputs
}

// Create runs the command create, if there is one.
func (*Command) Create(
	ctx context.Context, req infer.CreateRequest[CommandInputs],
) (infer.CreateResponse[CommandOutputs], error) {
	state := CommandOutputs{CommandInputs: req.Inputs}
	id, err := resource.NewUniqueHex(req.Name, 8, 0)
	if err == nil && !req.DryRun {
		err = run(ctx, req.Inputs.Create, &state.BaseInputs, &state.BaseOutputs)
	}
	return infer.CreateResponse[CommandOutputs]{ID: id, Output: state}, err
}

// Update runs the command update, or else create, and keeps the previous outputs if there is neither.
func (*Command) Update(
	ctx context.Context, req infer.UpdateRequest[CommandInputs, CommandOutputs],
) (infer.UpdateResponse[CommandOutputs], error) {
	state := CommandOutputs{CommandInputs: req.Inputs, BaseOutputs: req.State.BaseOutputs}
	if req.DryRun {
		return infer.UpdateResponse[CommandOutputs]{Output: state}, nil
	}
	command := req.Inputs.Update
	if command == nil {
		command = req.Inputs.Create
	}
	err := run(ctx, command, &state.BaseInputs, &state.BaseOutputs)
	return infer.UpdateResponse[CommandOutputs]{Output: state}, err
}

// Delete runs the command delete as it was stored.
func (*Command) Delete(ctx context.Context, req infer.DeleteRequest[CommandOutputs]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, run(ctx, req.State.Delete, &req.State.BaseInputs, &req.State.BaseOutputs)
}

var (
	_ infer.CustomUpdate[CommandInputs, CommandOutputs] = (*Command)(nil)
	_ infer.CustomDelete[CommandOutputs]                = (*Command)(nil)
)
