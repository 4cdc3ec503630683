"""Reads by the real reader actor, in fio's terms."""
