// What computes here: model.onnx, in onnxruntime-web.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { ngramReader, tokenReader } from "./reading.js";

/** Return a function from a text to {number, score}: the number of its answer, and how sure that is. */
export async function open(card, files) {
  const json = (name) => JSON.parse(new TextDecoder().decode(files[name]));
  const readers = [];
  if (card.tokens) readers.push(tokenReader(json("tokenizer.json"), card.tokens));
  if (card.ngrams) readers.push(ngramReader(json("ngrams.json")));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = files["ort-wasm-simd-threaded.wasm"];
  // above this level, a sum and a norm are joined to a node that is slower
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: "basic" };
  const session = await ort.InferenceSession.create(files["model.onnx"], options);
  return async (text) => {
    const feeds = {};
    for (const reader of readers) {
      for (const [name, ids] of Object.entries(reader(text))) {
        feeds[name] = new ort.Tensor("int32", ids, name === "input_ids" ? [1, ids.length] : [ids.length]);
      }
    }
    const { answer, score } = await session.run(feeds);
    return { number: Number(answer.data[0]), score: score.data[0] };
  };
}
