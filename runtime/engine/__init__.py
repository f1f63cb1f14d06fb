"""Tokens in, text out: no HTTP, no JSON, no templates."""
