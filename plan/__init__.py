"""What every machine must hold: pure functions from a spec to values."""
