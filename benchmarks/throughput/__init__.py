"""How fast texts become activations: ours, the limit, and the ways of other tools, side by side."""
