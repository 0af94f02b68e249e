"""The tests; a package, so that each module of it exists once, under one name."""
