// How programs use the model: a few lines for each of the usual clients. Pure.

/** `key` is what stands for the program's key, null where it wants none. */
export function snippets(base, model, key) {
  const curlHeader = key ? `\n  -H "Authorization: Bearer ${key}" \\` : "";
  const ollamaHeaders = key ? `, headers={"Authorization": "Bearer ${key}"}` : "";
  return {
    curl: `curl ${base}/v1/chat/completions \\
  -H "Content-Type: application/json" \\${curlHeader}
  -d '{"messages": [{"role": "user", "content": "Hello!"}]}'`,
    "Python: openai": `from openai import OpenAI

client = OpenAI(base_url="${base}/v1", api_key="${key ?? "none"}")
reply = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(reply.choices[0].message.content)`,
    LangChain: `from langchain_openai import ChatOpenAI

model = ChatOpenAI(base_url="${base}/v1", api_key="${key ?? "none"}", model="${model}")
print(model.invoke("Hello!").content)`,
    Ollama: `import ollama

client = ollama.Client(host="${base}"${ollamaHeaders})
reply = client.chat(
    model="${model}",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(reply.message.content)`,
  };
}
