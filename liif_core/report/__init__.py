"""From run folders and scores to tables, plots and a page: nothing is typed by hand."""
