"""Models in memory, and the folders that they are read from."""
