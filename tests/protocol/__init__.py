"""Table, property and differential tests of the pure core."""
