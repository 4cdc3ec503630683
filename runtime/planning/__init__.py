"""Predicts a run before it: pure arithmetic over a manifest, a ledger and measured rates. Measures nothing."""
