"""What crosses every wall of the engine: requests, events, facts. Values only, no policy and no llama.cpp."""
