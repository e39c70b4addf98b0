"""Weights and checkpoints as files: on a disk, in a shared folder, in an object store."""
