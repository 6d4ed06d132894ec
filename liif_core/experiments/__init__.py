"""All runs that a recipe may hold: their list, and what trains, tests and shows them in batches or on a cluster."""
