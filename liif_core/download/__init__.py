"""Public data sets into load/: transfers that resume, archives, and faces that are made by hand."""
