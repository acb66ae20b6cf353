package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-sdk/v2/diag"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

const (
	seed = "libvirt_cloudinit_disk"

	// attempts bounds how often a seed disk is read: what one attempt got was incomplete now and then.
	attempts = 5
)

// readAgain makes a refresh read a seed disk again when reading it fails.
//
// The provider downloads the whole disk for that, and under load libvirt's stream sometimes ends
// before its bytes came: "corrupted-image: EOF" of a disk that is well. A refresh has all disks of a
// stack read at the same time, and one that fails ends it.
func readAgain(p *schema.Provider) *schema.Provider {
	resource := p.ResourcesMap[seed]
	read := resource.ReadContext
	resource.ReadContext = func(
		ctx context.Context, data *schema.ResourceData, meta any,
	) diag.Diagnostics {
		var said diag.Diagnostics
		for range attempts {
			if said = read(ctx, data, meta); !said.HasError() || ctx.Err() != nil {
				break
			}
		}
		return said
	}
	return p
}
