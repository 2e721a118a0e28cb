"""What an explainer costs in tokens of language models, on real prompts."""
