package output

import (
	"context"
	"slices"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

const (
	redacted = "[secret]"
	// Shorter values ("1", "yes") would only garble messages.
	minSecret     = 4
	minSecretLine = 8
)

// credentials are the keys of a connection that are secret in any program; host and user are
// wrapped in the same secret, but a message without them would be of no use.
var credentials = []string{"password", "privateKey", "privateKeyPassword"}

// Redactor replaces the secrets of one resource in text that is shown to people.
type Redactor struct{ replacer *strings.Replacer }

// Replace returns text without the secrets.
func (r Redactor) Replace(text string) string {
	if r.replacer == nil {
		return text
	}
	return r.replacer.Replace(text)
}

type redactorKey struct{}

func redactorOf(ctx context.Context) Redactor {
	redactor, _ := ctx.Value(redactorKey{}).(Redactor)
	return redactor
}

// KnowSecrets tells the operations of a provider which values of the resource are secret. The
// resources themselves see plain Go values only, and a command may well print what it was given:
// a shell shows the line that it does not understand.
func KnowSecrets(provider p.Provider) p.Provider {
	know := func(ctx context.Context, properties ...property.Map) context.Context {
		return context.WithValue(ctx, redactorKey{}, newRedactor(properties))
	}
	inner := provider
	provider.Create = func(ctx context.Context, req p.CreateRequest) (p.CreateResponse, error) {
		return inner.Create(know(ctx, req.Properties), req)
	}
	provider.Update = func(ctx context.Context, req p.UpdateRequest) (p.UpdateResponse, error) {
		return inner.Update(know(ctx, req.State, req.Inputs), req)
	}
	provider.Delete = func(ctx context.Context, req p.DeleteRequest) error {
		return inner.Delete(know(ctx, req.Properties), req)
	}
	provider.Invoke = func(ctx context.Context, req p.InvokeRequest) (p.InvokeResponse, error) {
		return inner.Invoke(know(ctx, req.Args), req)
	}
	return provider
}

func newRedactor(properties []property.Map) Redactor {
	var secrets []string
	for _, values := range properties {
		for key, value := range values.All {
			if key == "connection" {
				secrets = appendCredentials(secrets, value)
			} else {
				secrets = appendSecrets(secrets, value, false)
			}
		}
	}
	pieces := pieces(secrets)
	if len(pieces) == 0 {
		return Redactor{}
	}
	pairs := make([]string, 0, 2*len(pieces))
	for _, piece := range pieces {
		pairs = append(pairs, piece, redacted)
	}
	return Redactor{strings.NewReplacer(pairs...)}
}

func appendCredentials(secrets []string, value property.Value) []string {
	if !value.IsMap() {
		return secrets
	}
	for key, part := range value.AsMap().All {
		if slices.Contains(credentials, key) {
			secrets = appendSecrets(secrets, part, true)
		} else {
			secrets = appendCredentials(secrets, part)
		}
	}
	return secrets
}

// appendSecrets adds every string in value that is secret or lies within something secret.
func appendSecrets(secrets []string, value property.Value, within bool) []string {
	secret := within || value.Secret()
	switch {
	case value.IsString():
		if secret {
			secrets = append(secrets, value.AsString())
		}
	case value.IsMap():
		for _, part := range value.AsMap().All {
			secrets = appendSecrets(secrets, part, secret)
		}
	case value.IsArray():
		for _, part := range value.AsArray().All {
			secrets = appendSecrets(secrets, part, secret)
		}
	}
	return secrets
}

// pieces cuts secrets into what can appear on one line of output, the longest first, so that a
// secret within another does not break the longer one up.
func pieces(secrets []string) []string {
	var found []string
	for _, secret := range secrets {
		if !strings.Contains(strings.TrimSpace(secret), "\n") {
			if piece := strings.TrimSpace(secret); len(piece) >= minSecret {
				found = append(found, piece)
			}
			continue
		}
		for line := range strings.Lines(secret) {
			if piece := strings.TrimSpace(line); len(piece) >= minSecretLine {
				found = append(found, piece)
			}
		}
	}
	slices.SortFunc(found, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(found)
}
