"""Runs on a Prefect server: what is put there, what its workers start, what they need."""
