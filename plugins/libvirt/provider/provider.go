// Package provider says how the libvirt provider of Terraform looks from Pulumi: the tokens and the
// settings that the Python SDK pulumi-libvirt 0.5.4 speaks.
package provider

import (
	"unicode"

	"github.com/dmacvicar/terraform-provider-libvirt/libvirt"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	sdkv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
)

const (
	// Name is the package name in every token and in the program's name, pulumi-resource-libvirt.
	Name = "libvirt"
	// Version is that of the SDK whose place this plugin takes: the engine looks for exactly it.
	Version = "0.5.4"

	// longestName bounds the names made for resources that have none: a file system's limit, in bytes.
	longestName = 255
)

// Info returns the bridged provider: its resources, its functions and its one setting, the URI.
func Info() tfbridge.ProviderInfo {
	info := tfbridge.ProviderInfo{
		P:              sdkv2.NewProvider(readByLookup(libvirt.Provider())),
		Name:           Name,
		Version:        Version,
		ResourcePrefix: Name,
		Config: map[string]*tfbridge.SchemaInfo{
			"uri": {Default: &tfbridge.DefaultInfo{EnvVars: []string{"LIBVIRT_DEFAULT_URI"}}},
		},
		Resources: map[string]*tfbridge.ResourceInfo{
			"libvirt_cloudinit_disk": {Tok: resource("CloudInitDisk")},
			"libvirt_combustion":     {Tok: resource("Combustion")},
			"libvirt_domain":         {Tok: resource("Domain")},
			"libvirt_ignition":       {Tok: resource("Ignition")},
			"libvirt_network":        {Tok: resource("Network")},
			"libvirt_pool":           {Tok: resource("Pool")},
			"libvirt_volume":         {Tok: resource("Volume")},
		},
		DataSources: map[string]*tfbridge.DataSourceInfo{
			"libvirt_network_dns_host_template":        {Tok: function("getNetworkDnsHostTemplate")},
			"libvirt_network_dns_srv_template":         {Tok: function("getNetworkDnsSrvTemplate")},
			"libvirt_network_dnsmasq_options_template": {Tok: function("getNetworkDnsmasqOptionsTemplate")},
			"libvirt_node_device_info":                 {Tok: function("getNodeDeviceInfo")},
			"libvirt_node_devices":                     {Tok: function("getNodeDevices")},
			"libvirt_node_info":                        {Tok: function("getNodeInfo")},
		},
	}
	info.SetAutonaming(longestName, "-")
	return info
}

// resource returns the token of a resource: Domain is libvirt:index/domain:Domain.
func resource(name string) tokens.Type {
	return tokens.Type(member(name))
}

// function returns the token of a function: getNodeInfo is libvirt:index/getNodeInfo:getNodeInfo.
func function(name string) tokens.ModuleMember {
	return member(name)
}

// member puts a name into the module that bears it, with a small first letter.
func member(name string) tokens.ModuleMember {
	file := []rune(name)
	file[0] = unicode.ToLower(file[0])
	return tokens.ModuleMember(Name + ":index/" + string(file) + ":" + name)
}
