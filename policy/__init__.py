"""What no change of a cluster may do: rules over the resources that a program declares."""
