"""A learner in several processes, started by accelerate and ended with the one that asked.

learner   what a run holds: plans steps, and hands them on
group     starts the processes, asks all of them, ends them; one of them lost ends all
messages  what is said, as lines of JSON over a Unix socket in a folder of the user's own
child     what each process runs
"""
