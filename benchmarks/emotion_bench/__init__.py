"""What the benchmarks share: timing side by side, ceilings, the machine's card, models, reports."""
