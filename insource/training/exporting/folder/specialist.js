// The specialist in this folder, in a browser: it is loaded once, and answers where it is. Nothing is sent anywhere.

import { open } from "./engine.js";
import { seen } from "./reading.js";

/** Fetch the folder's files, check their digests, and return the specialist; `told` gets (bytes done, bytes in all). */
export async function load(told = () => {}) {
  const card = await (await get("specialist.json")).json();
  const needed = Object.keys(card.files).filter((name) => /\.(onnx|wasm|safetensors)$|^(tokenizer|ngrams)\.json$/.test(name));
  const total = needed.reduce((sum, name) => sum + card.files[name].bytes, 0);
  const files = {};
  let done = 0;
  for (const name of needed) {
    files[name] = await (await get(name)).arrayBuffer();
    await check(name, files[name], card.files[name].sha256);
    told((done += card.files[name].bytes), total);
  }
  return new Specialist(card, await open(card, files));
}

class Specialist {
  constructor(card, engine) {
    Object.assign(this, { card, engine });
  }

  /** The answer to a text: {answer, label, score, accepted}; a text without anything in it is never accepted. */
  async answer(text) {
    const read = seen(text, this.card.input);
    const { number, score } = await this.engine(read ?? "");
    const accepted = read !== null && this.card.threshold !== null && score >= this.card.threshold;
    return { answer: this.card.replies[number], label: this.card.answers[number], score, accepted };
  }
}

async function get(name) {
  const reply = await fetch(new URL(name, import.meta.url));
  if (!reply.ok) throw new Error(`${name} cannot be loaded (${reply.status}); the whole exported folder was expected.`);
  return reply;
}

async function check(name, bytes, expected) {
  if (!crypto.subtle) throw new Error("Files are checked by digest, which browsers do on https and on localhost only.");
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const digest = Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (digest !== expected) throw new Error(`${name} is not the file that was exported. Export the specialist again.`);
}
