"""Workflows, activities, store and the public API: what makes an explanation durable."""
