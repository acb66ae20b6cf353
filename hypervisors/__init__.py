"""Makes machines: an interface for hypervisors and its adapters, independent of Kubernetes."""
