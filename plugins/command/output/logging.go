package output

import "github.com/pulumi/pulumi-go-provider/infer"

// The streams of a command that are shown while it runs. The modules remote and local each have a
// type of their own for this, because the SDK knows two; the values and their meaning live here.
const (
	logStdout          = "stdout"
	logStderr          = "stderr"
	logStdoutAndStderr = "stdoutAndStderr"
	logNone            = "none"
)

// LoggingValues lists the values of the SDK's enumeration Logging.
func LoggingValues[T ~string]() []infer.EnumValue[T] {
	return []infer.EnumValue[T]{
		{Name: logStdout, Value: logStdout, Description: "Show stdout while the command runs, not stderr"},
		{Name: logStderr, Value: logStderr, Description: "Show stderr while the command runs, not stdout"},
		{Name: logStdoutAndStderr, Value: logStdoutAndStderr, Description: "Show stdout and stderr while the command runs"},
		{Name: logNone, Value: logNone, Description: "Show nothing while the command runs"},
	}
}

// Streams names the streams of a command.
type Streams struct{ Stdout, Stderr bool }

// Logged reads a program's choice; no choice means both streams.
func Logged[T ~string](logging *T) Streams {
	if logging == nil {
		return Streams{Stdout: true, Stderr: true}
	}
	switch *logging {
	case logStdout:
		return Streams{Stdout: true}
	case logStderr:
		return Streams{Stderr: true}
	case logNone:
		return Streams{}
	default:
		return Streams{Stdout: true, Stderr: true}
	}
}
