"""From features to colours, at any coordinates."""
