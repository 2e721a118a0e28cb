"""Stand-ins for what a test cannot have: providers of language models."""
