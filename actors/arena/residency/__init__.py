"""Which bundles of a table stay in DRAM between tokens. Pure bookkeeping: no bytes, no messages, no clock."""
