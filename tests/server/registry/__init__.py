"""Tests of groat.server.registry.registry."""
