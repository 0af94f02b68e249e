"""The files in deploy/: run for real where that is possible here, checked against their schemas elsewhere."""
