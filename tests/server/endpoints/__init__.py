"""Tests of groat.server.endpoints."""
