package remote

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

// Command is a command that runs on another machine when the resource is created, updated or deleted.
type Command struct{}

// Annotate gives the resource its text in the schema.
func (c *Command) Annotate(a infer.Annotator) {
	a.Describe(&c, "A command that runs on another machine over SSH.")
}

// CommandInputs are the inputs of a Command.
type CommandInputs struct {
	Connection             *Connection       `pulumi:"connection"                      provider:"secret"`
	Create                 *string           `pulumi:"create,optional"`
	Update                 *string           `pulumi:"update,optional"`
	Delete                 *string           `pulumi:"delete,optional"`
	Triggers               *[]any            `pulumi:"triggers,optional"               provider:"replaceOnChanges"`
	Stdin                  *string           `pulumi:"stdin,optional"`
	Environment            map[string]string `pulumi:"environment,optional"`
	Logging                *Logging          `pulumi:"logging,optional"`
	AddPreviousOutputInEnv *bool             `pulumi:"addPreviousOutputInEnv,optional"`
}

// Annotate gives the inputs their defaults and their text in the schema.
func (in *CommandInputs) Annotate(a infer.Annotator) {
	a.Describe(&in.Connection, "How to connect to the machine.")
	a.Describe(&in.Create, "The command to run when the resource is created, and when it is updated and there is no update.")
	a.Describe(&in.Update, "The command to run when an input has changed. Defaults to create.")
	a.Describe(&in.Delete, "The command to run when the resource is deleted.")
	a.Describe(&in.Triggers, "Values of any kind; a change of one replaces the resource.")
	a.Describe(&in.Stdin, "The text that the command reads as its standard input.")
	a.Describe(&in.Environment, "Environment variables for the command. The SSH server must accept them (AcceptEnv).")
	a.Describe(&in.Logging, "What is shown while the command runs. Defaults to stdout and stderr; outputs hold both in any case.")
	a.Describe(&in.AddPreviousOutputInEnv, "Whether the command finds the previous outputs in "+
		"PULUMI_COMMAND_STDOUT and PULUMI_COMMAND_STDERR. Defaults to true.")
}

// CommandOutputs are the inputs, which delete needs later, and what the command wrote.
type CommandOutputs struct {
	CommandInputs
	Stdout string `pulumi:"stdout"`
	Stderr string `pulumi:"stderr"`
}

// Annotate gives the outputs their text in the schema.
func (out *CommandOutputs) Annotate(a infer.Annotator) {
	out.CommandInputs.Annotate(a)
	a.Describe(&out.Stdout, "What the command wrote to its standard output.")
	a.Describe(&out.Stderr, "What the command wrote to its standard error.")
}

// Create runs the command create, if there is one.
func (*Command) Create(
	ctx context.Context, req infer.CreateRequest[CommandInputs],
) (infer.CreateResponse[CommandOutputs], error) {
	state := CommandOutputs{CommandInputs: req.Inputs}
	id, err := resource.NewUniqueHex(req.Name, 8, 0)
	if err == nil && !req.DryRun {
		err = state.run(ctx, req.Inputs.Create)
	}
	return infer.CreateResponse[CommandOutputs]{ID: id, Output: state}, err
}

// Update runs the command update, or else create, and keeps the previous outputs if there is neither.
func (*Command) Update(
	ctx context.Context, req infer.UpdateRequest[CommandInputs, CommandOutputs],
) (infer.UpdateResponse[CommandOutputs], error) {
	state := CommandOutputs{CommandInputs: req.Inputs, Stdout: req.State.Stdout, Stderr: req.State.Stderr}
	if req.DryRun {
		return infer.UpdateResponse[CommandOutputs]{Output: state}, nil
	}
	command := req.Inputs.Update
	if command == nil {
		command = req.Inputs.Create
	}
	err := state.run(ctx, command)
	return infer.UpdateResponse[CommandOutputs]{Output: state}, err
}

// Delete runs the command delete as it was stored, over the connection as it was stored.
func (*Command) Delete(ctx context.Context, req infer.DeleteRequest[CommandOutputs]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, req.State.run(ctx, req.State.Delete)
}

var (
	_ infer.CustomUpdate[CommandInputs, CommandOutputs] = (*Command)(nil)
	_ infer.CustomDelete[CommandOutputs]                = (*Command)(nil)
)
