"""The HTTP side: routes, dialects, streams."""
