"""llama.cpp's sources to libraries: patched, compiled for every kind of processor, kept."""
