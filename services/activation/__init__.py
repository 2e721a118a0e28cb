"""Activation service: token ids in, feature activations out."""
