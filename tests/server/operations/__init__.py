"""Tests of groat.server.operations."""
