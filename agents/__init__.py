"""Who: generator, solver and verifier. Each renders a prompt, makes one call through a port, and
parses what came back. None of them trains, stores or decides."""
