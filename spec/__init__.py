"""The spec of a cluster as frozen models, and the catalogue of versions that work together."""
