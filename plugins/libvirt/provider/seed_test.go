package provider

import (
	"context"
	"testing"

	"github.com/dmacvicar/terraform-provider-libvirt/libvirt"
	"github.com/hashicorp/terraform-plugin-sdk/v2/diag"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/hashicorp/terraform-plugin-sdk/v2/terraform"
)

// lookups returns the real resources, whose volumes are looked up as told and whose seeds must not
// be downloaded unless that is wanted; and what was looked up.
func lookups(t *testing.T, there bool, fails bool) (*schema.Resource, *[]string) {
	t.Helper()
	asked := []string{}
	p := libvirt.Provider()
	p.ResourcesMap[seed].ReadContext = func(
		context.Context, *schema.ResourceData, any,
	) diag.Diagnostics {
		asked = append(asked, "download")
		return nil
	}
	p.ResourcesMap[volume].ReadContext = func(
		_ context.Context, data *schema.ResourceData, _ any,
	) diag.Diagnostics {
		asked = append(asked, data.Id()+" in "+data.Get("pool").(string))
		if fails {
			return diag.Errorf("no connection")
		}
		if !there {
			data.SetId("")
		}
		return nil
	}
	return readByLookup(p).ResourcesMap[seed], &asked
}

func kept(disk *schema.Resource) *schema.ResourceData {
	return disk.Data(&terraform.InstanceState{
		ID:         "/disks/dev-master-seed.iso;1234",
		Attributes: map[string]string{"id": "x", "pool": "hardway", "name": "dev-master-seed.iso"},
	})
}

func TestARefreshLooksForASeedAndLeavesWhatIsKnownOfIt(t *testing.T) {
	disk, asked := lookups(t, true, false)
	data := kept(disk)
	if said := disk.ReadContext(context.Background(), data, nil); said.HasError() {
		t.Fatal(said)
	}
	if len(*asked) != 1 || (*asked)[0] != "/disks/dev-master-seed.iso in hardway" {
		t.Error(*asked)
	}
	if data.Id() != "/disks/dev-master-seed.iso;1234" || data.Get("name") != "dev-master-seed.iso" {
		t.Error(data.State())
	}
}

func TestASeedThatIsGoneIsGoneAndAnErrorIsNone(t *testing.T) {
	disk, _ := lookups(t, false, false)
	gone := kept(disk)
	if said := disk.ReadContext(context.Background(), gone, nil); said.HasError() || gone.Id() != "" {
		t.Error(said, gone.Id())
	}
	disk, _ = lookups(t, true, true)
	unknown := kept(disk)
	if said := disk.ReadContext(context.Background(), unknown, nil); !said.HasError() || unknown.Id() == "" {
		t.Error(said, unknown.Id())
	}
}

func TestWhatIsImportedIsDownloaded(t *testing.T) {
	disk, asked := lookups(t, true, false)
	data := disk.Data(&terraform.InstanceState{ID: "/disks/dev-master-seed.iso;1234"})
	disk.ReadContext(context.Background(), data, nil)
	if len(*asked) != 1 || (*asked)[0] != "download" {
		t.Error(*asked)
	}
}
