"""What is decided: who is computed when, where, how far ahead and with how many threads. No thread, no llama.cpp."""
