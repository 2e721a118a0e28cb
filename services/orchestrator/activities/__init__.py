"""Activities: each loads artifacts, makes one call, stores what came back."""
