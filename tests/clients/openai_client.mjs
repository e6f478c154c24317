// The `openai` package from npm against a gateway: BASE_URL is its URL, SYSTEM the prompt that names the task.
// Prints one JSON object: what every call gave, and which backend served it. Throws where a call fails.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL + "/v1", apiKey: "k", maxRetries: 0 });
const system = process.env.SYSTEM;
const found = {};

async function note(name, call, textOf) {
  const { data, response } = await call.withResponse();
  found[name] = { text: await textOf(data), servedBy: response.headers.get("x-insource-served-by") };
}

async function gathered(stream, pieceOf) {
  let text = "";
  for await (const event of stream) text += pieceOf(event) ?? "";
  return text;
}

for (const word of ["sure", "unsure"]) {
  const messages = [{ role: "system", content: system }, { role: "user", content: word }];
  const chat = { model: "gpt-x", messages };
  await note(`chat ${word}`, client.chat.completions.create(chat), (r) => r.choices[0].message.content);
  await note(`chat stream ${word}`, client.chat.completions.create({ ...chat, stream: true }), (s) =>
    gathered(s, (e) => e.choices[0]?.delta?.content));
  const prompt = { model: "triage-1", prompt: word };
  await note(`completions ${word}`, client.completions.create(prompt), (r) => r.choices[0].text);
  await note(`completions stream ${word}`, client.completions.create({ ...prompt, stream: true }), (s) =>
    gathered(s, (e) => e.choices[0]?.text));
  const input = { model: "gpt-x", instructions: system, input: word, store: false };
  await note(`responses ${word}`, client.responses.create(input), (r) => r.output_text);
  await note(`responses stream ${word}`, client.responses.create({ ...input, stream: true }), (s) =>
    gathered(s, (e) => (e.type === "response.output_text.delta" ? e.delta : "")));
}
await note("moderations", client.moderations.create({ model: "guard-1", input: "wrong" }), (r) =>
  Object.keys(r.results[0].categories).join());
await note("embeddings", client.embeddings.create({ model: "e", input: "hello", dimensions: 4 }), (r) =>
  String(r.data[0].embedding.length));
found.models = [];
for await (const model of client.models.list()) found.models.push(model.id);
try {
  await client.chat.completions.create({ model: "task:nobody", messages: [{ role: "user", content: "x" }] });
} catch (error) {
  found.error = { status: error.status, code: error.code, isNotFound: error instanceof OpenAI.NotFoundError };
}
console.log(JSON.stringify(found));
