"""Networks that judge what others give."""
