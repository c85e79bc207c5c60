"""Other servers' wire formats: one file for each peer, over the same scorer."""
