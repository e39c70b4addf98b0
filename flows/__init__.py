"""When: Prefect flows and thin tasks, the assembly of the parts, the command line and reports.

The only room that prints, that knows Prefect, and that names concrete classes (`assemble`).

    cli       commands; imports nothing heavy before one runs
    settings  TOML and --set to a RunConfig, or every problem at once
    home      where a run's state lives
    data      rows of a file or a Hub data set, or every problem at once
    assemble  from a config to parts that can run
    owning    a run is owned while it works, and every way out leaves a reason
    stages    the stages of a run; each asks the store first
    restore   the newest checkpoint that verifies, then committed steps taken again
    evolve    the same stages as one Prefect flow, one task each
    server    Prefect's temporary server, which ends with the process that started it
    display   a run while it works, on a terminal or as plain lines
    attack    attack strings against every verifier
    report    listings and summaries; plot draws the climb
    doctor    what this machine has, lacks, and how to get it
"""
