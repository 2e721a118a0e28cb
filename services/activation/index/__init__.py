"""The corpus index: what an SAE does on a fixed text collection, swept once and read for ever."""
