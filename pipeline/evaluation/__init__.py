"""Probes of the three axes on fixed held-out sets: the only code that asks for truth.

Every figure is sampled or scored at temperature 1 as in training, carries a 95 % interval
clustered by task, and keeps its value per task, so that versions and runs can be paired.
"""
