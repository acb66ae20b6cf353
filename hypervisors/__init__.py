"""Where machines come from: a small port and its adapters, which know nothing of Kubernetes."""
