"""Ollama's dialect: generate, chat, embed, and the library of one model."""
