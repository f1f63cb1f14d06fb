"""Who comes in and how: connections, the listener, keys and origins."""
