"""A pack and a model to a bundle: what the GGUF says, welding, verifying, inspecting."""
