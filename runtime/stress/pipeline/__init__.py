"""Predictor, arena and reader under a consumer that computes nothing, for a set time."""
