"""Memory: everything that happened in a run as rows of one SQL store.

`database` opens it, `leases` says who may write, `ledger` records rounds, `loads` gives them back,
`lineage` follows parents, `questions` answers the command line, `invariants` checks it all.
"""
