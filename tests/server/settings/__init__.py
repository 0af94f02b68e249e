"""Tests of groat.server.settings.table."""
