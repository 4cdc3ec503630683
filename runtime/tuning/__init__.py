"""Measures this machine once (flash, DRAM, kernels, processes) and keeps the result. Predicts nothing."""
