"""Tests of what is measured and kept."""
