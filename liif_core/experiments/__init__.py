"""The paper's experiments: their list, and what trains, tests and shows them in batches or on a cluster."""
