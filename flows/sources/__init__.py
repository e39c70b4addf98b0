"""Rows of a user's own, from wherever they lie to tasks that a run can use."""
