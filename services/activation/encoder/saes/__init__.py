"""SAE architectures, one per module, and the registry that knows them all."""
