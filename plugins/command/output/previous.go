package output

import "fmt"

// The previous outputs of a resource, as its next command finds them in its environment.
const (
	PreviousStdout = "PULUMI_COMMAND_STDOUT"
	PreviousStderr = "PULUMI_COMMAND_STDERR"
)

// Linux refuses to start a program with a longer variable (MAX_ARG_STRLEN, name and "=" included),
// and an SSH message cannot carry one twice as long.
const maxVariable = 128<<10 - 64

// Variable is one variable of a command's environment.
type Variable struct{ Name, Value string }

// Previous lists the variables that carry the previous outputs, empty ones left out. Where one is
// too long to be passed on, it is left out as well and the warning says so.
func Previous(wanted *bool, stdout, stderr string) (variables []Variable, warnings []string) {
	if wanted != nil && !*wanted {
		return nil, nil
	}
	for _, variable := range []Variable{{PreviousStdout, stdout}, {PreviousStderr, stderr}} {
		switch {
		case variable.Value == "":
		case len(variable.Value) > maxVariable:
			warnings = append(warnings, fmt.Sprintf(
				"%s is not set: the previous output is %d bytes long and an environment variable holds %d; "+
					"set addPreviousOutputInEnv to false, or write less output", variable.Name, len(variable.Value), maxVariable))
		default:
			variables = append(variables, variable)
		}
	}
	return variables, warnings
}
