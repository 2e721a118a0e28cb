"""Activations from a Triton server: model repository, model, supervisor, and backend."""
