"""The store: the database is the queue, the journal and the projections (law 3)."""
