"""Ways of explaining: one package each, behind `base.Explainer`."""
