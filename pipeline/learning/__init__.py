"""The optimiser step: planned once, taken by one process or by several."""
