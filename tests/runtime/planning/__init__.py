"""Tests of the planner: pure."""
