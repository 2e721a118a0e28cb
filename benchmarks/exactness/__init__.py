"""Every SAE kind at every place of every model family, against SAELens and TransformerLens."""
