"""When: Prefect flows and thin tasks, the assembly of the parts, the command line and reports.

The only room that prints, that knows Prefect, and that names concrete classes (`assemble`).

    cli       commands; imports nothing heavy before one runs
    settings  TOML and --set to a RunConfig, or every problem at once
    home      where a run's state lives
    depot     where its checkpoints are: the home, and a shared folder that other machines see
    sources   rows of a file, a folder, a database or the Hub, or why not
    data      those rows made ready for a run, and what was done to them
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
