"""Tests of groat.server.log."""
