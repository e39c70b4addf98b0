"""The suite runs in two processes of one thread each: more would wait on one another."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
