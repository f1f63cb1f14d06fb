"""Runs on the distributor's machine: finds a model and welds it to a runtime pack."""
