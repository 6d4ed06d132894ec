"""Networks whose features a loss compares; they are not trained."""
