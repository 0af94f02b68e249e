"""Tests of groat.verifier."""
