package output

import (
	"context"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// previousInEnv is the input whose absence means true.
const previousInEnv = "addPreviousOutputInEnv"

// CompareForms makes a provider compare inputs by what they mean. Earlier builds of this plugin kept
// two of them in another form than the published one does: the credentials of a secret connection
// were plain within it, and the default of addPreviousOutputInEnv was written down. A stack must not
// run all its commands again because of the plugin that made it.
func CompareForms(provider p.Provider) p.Provider {
	inner := provider.Diff
	provider.Diff = func(ctx context.Context, req p.DiffRequest) (p.DiffResponse, error) {
		req.OldInputs, req.State, req.Inputs = oneForm(req.OldInputs), oneForm(req.State), oneForm(req.Inputs)
		return inner(ctx, req)
	}
	return provider
}

func oneForm(inputs property.Map) property.Map {
	// A connection that is not secret as a whole stays as it is: it has to become so.
	if connection := inputs.Get("connection"); connection.Secret() {
		inputs = inputs.Set("connection", withoutSecrets(connection).WithSecret(true))
	}
	if value := inputs.Get(previousInEnv); value.IsBool() && value.AsBool() {
		inputs = inputs.Delete(previousInEnv)
	}
	return inputs
}

// withoutSecrets returns a value, and the values in it, with none marked as secret.
func withoutSecrets(value property.Value) property.Value {
	value = value.WithSecret(false)
	if !value.IsMap() {
		return value
	}
	parts := map[string]property.Value{}
	for key, part := range value.AsMap().All {
		parts[key] = withoutSecrets(part)
	}
	return property.WithGoValue(value, property.NewMap(parts))
}
