"""Tests of groat.keys.ring."""
