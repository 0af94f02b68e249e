"""Tests of groat.keys.custody."""
