"""What a person wants: frozen models, and the catalogue of versions that fit together."""
