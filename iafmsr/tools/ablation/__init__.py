"""Ablation runs: option files trained under one budget, data and seed list, measured and compared in tables."""
