"""A network loaded and asked for images: files, zoom videos, the web page."""
