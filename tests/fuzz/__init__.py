"""Hostile input: targets that take any bytes, which hypothesis (`test_targets.py`) and atheris (`make fuzz`) share."""
