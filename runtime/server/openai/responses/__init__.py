"""OpenAI's newer API: responses, made of items, which may go on from one another."""
