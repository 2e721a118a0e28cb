"""Builds the demo corpus from packages of public registries, deterministically."""
