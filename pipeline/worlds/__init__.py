"""Worlds: sources of tasks whose truth can be computed. Only probes and seed tasks may ask it."""
