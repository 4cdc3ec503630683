"""Prepares lossy modes on a text and keeps what came of it beside the model."""
