"""The demo's own data: how corpus, SAE and card were made, and what ships."""
