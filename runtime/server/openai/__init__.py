"""OpenAI's dialect: chat, completions, embeddings, models; `responses` is its newer API."""
