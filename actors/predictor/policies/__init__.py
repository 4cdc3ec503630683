"""Preload policies: pure objects that score channels. They know no slot, no read and no process."""
