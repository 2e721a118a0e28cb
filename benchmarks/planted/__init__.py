"""Features whose truth is known, planted on the model's activations, and nulls that have none."""
