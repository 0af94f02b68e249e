"""Tests of groat.server.http.entrance."""
