"""The program's life: which settings, which files, a port, a model, an end."""
