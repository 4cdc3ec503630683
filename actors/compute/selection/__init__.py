"""Which weights a lossy step computes with: small pure policies over activations, numpy only."""
