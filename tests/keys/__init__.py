"""Keys at rest and in time."""
