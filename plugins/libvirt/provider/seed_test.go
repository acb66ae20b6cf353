package provider

import (
	"context"
	"testing"

	"github.com/hashicorp/terraform-plugin-sdk/v2/diag"
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
)

// failing returns a provider whose seed disks are read after some failures, and how often they were.
func failing(times int) (*schema.Provider, *int) {
	reads := 0
	read := func(context.Context, *schema.ResourceData, any) diag.Diagnostics {
		reads++
		if reads <= times {
			return diag.Errorf("corrupted-image: EOF")
		}
		return nil
	}
	disk := &schema.Resource{ReadContext: read}
	return readAgain(&schema.Provider{ResourcesMap: map[string]*schema.Resource{seed: disk}}), &reads
}

func TestASeedThatCannotBeReadIsReadAgain(t *testing.T) {
	for _, one := range []struct {
		failures, reads int
		fails           bool
	}{{0, 1, false}, {2, 3, false}, {attempts - 1, attempts, false}, {attempts, attempts, true}} {
		p, reads := failing(one.failures)
		said := p.ResourcesMap[seed].ReadContext(context.Background(), nil, nil)
		if said.HasError() != one.fails || *reads != one.reads {
			t.Errorf("after %d failures: %d reads, %v", one.failures, *reads, said)
		}
	}
}

func TestNobodyReadsAgainWhoIsCancelled(t *testing.T) {
	p, reads := failing(attempts)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if p.ResourcesMap[seed].ReadContext(cancelled, nil, nil); *reads != 1 {
		t.Errorf("%d reads", *reads)
	}
}
