"""Throughput, cost and quality, measured on what is there."""
