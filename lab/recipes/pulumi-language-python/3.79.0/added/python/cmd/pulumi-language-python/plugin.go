package main

import (
	"google.golang.org/protobuf/encoding/protowire"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// Fields that came to pulumi/language.proto after this version and are kept unread.
const (
	runPluginRequestInfo        = 5
	runPluginRequestKind        = 6
	programInfoProgramDirectory = 2
)

// pluginArguments is what Python is given to run a plugin: the program that an older CLI names, or
// the folder that a newer one describes. A policy pack is run by the SDK, which takes the folder last.
func pluginArguments(req *pulumirpc.RunPluginRequest) []string {
	if req.Program != "" {
		return append([]string{req.Program}, req.Args...)
	}
	unread := req.ProtoReflect().GetUnknown()
	folder := string(field(field(unread, runPluginRequestInfo), programInfoProgramDirectory))
	if string(field(unread, runPluginRequestKind)) == "analyzer" {
		return append(append([]string{"-u", "-m", "pulumi.policy"}, req.Args...), folder)
	}
	return append([]string{folder}, req.Args...)
}

// field is the content of the last field with this number, or nothing.
func field(message []byte, number protowire.Number) []byte {
	var found []byte
	for len(message) > 0 {
		is, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil
		}
		rest := message[size:]
		if is == number && kind == protowire.BytesType {
			found, _ = protowire.ConsumeBytes(rest)
		}
		size = protowire.ConsumeFieldValue(is, kind, rest)
		if size < 0 {
			return nil
		}
		message = rest[size:]
	}
	return found
}
