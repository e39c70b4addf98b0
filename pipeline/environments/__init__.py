"""Environments: where seed tasks come from, and the exam that goes with them.

An environment hands out seed tasks with their references, and an Exam whose truth only probes
ask. The two never share a question.
"""
