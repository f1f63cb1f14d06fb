"""llama.cpp's native dialect, as llama-server and llamafile's server speak it."""
