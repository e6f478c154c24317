// What computes here: each word, and each pair of neighbouring words, has a vector, and a text is their sum.

import { wordsOf } from "./reading.js";

const TYPES = { F64: Float64Array, F32: Float32Array, I8: Int8Array, U8: Uint8Array };
const different = (names) => [...new Set(names)];

/** Return a function from a text to {number, score}: the number of its answer, and how sure that is. */
export async function open({ units, scorer }, files) {
  const model = arraysOf(files["static.safetensors"]);
  const tables = {};
  for (const kind of ["words", "pairs", "parts"]) {
    const names = new TextDecoder("utf-8", { ignoreBOM: true }).decode(model[kind]).split("\n");
    const [values, scales, weights] = ["values", "scales", "weights"].map((part) => model[`${kind}.${part}`]);
    tables[kind] = { rows: new Map(names.map((name, row) => [name, row])), values, scales, weights };
  }
  return async (text) => {
    const words = wordsOf(text.toLowerCase());
    const pairs = words.slice(1).map((word, before) => `${words[before]} ${word}`);
    const logits = Float64Array.from(model.bias);
    add(logits, tables, "words", different(words), (word) => wordParts(word, units), model.unknown[0]);
    add(logits, tables, "pairs", different(pairs), (pair) => pairParts(pair, units), model.unknown[1]);
    return scored(softmax(logits), scorer);
  };
}

/** Add what words, or pairs, say to the logits. A unit without a vector of its own is made of its known parts. */
function add(logits, tables, kind, units, partsOf, unknown) {
  const [sums, answers] = [logits.map(() => 0), logits.length];
  let squares = 0;
  for (const unit of units) {
    const own = tables[kind].rows.has(unit);
    const { rows, values, scales, weights } = tables[own ? kind : "parts"];
    const found = (own ? [unit] : partsOf(unit)).map((name) => rows.get(name)).filter((row) => row !== undefined);
    const length = Math.hypot(...found.map((row) => weights[row])) || 1;
    const weight = own ? length : unknown;
    squares += weight * weight;
    for (const row of found) {
      const times = (weight / length) * scales[row];
      for (let answer = 0; answer < answers; answer++) sums[answer] += times * values[row * answers + answer];
    }
  }
  for (let answer = 0; answer < answers; answer++) logits[answer] += sums[answer] / (Math.sqrt(squares) || 1);
}

function wordParts(word, { part_orders, most_characters }) {
  const marked = ["<", ...[...word].slice(0, most_characters), ">"];
  const orders = part_orders.filter((order) => order < marked.length);
  const cut = orders.flatMap((order) => marked.slice(order - 1).map((_, at) => marked.slice(at, at + order).join("")));
  return different(cut);
}

function pairParts(pair, { spans }) {
  const [first, second] = pair.split(" ").map((word) => [...word]);
  const fitting = spans.filter(([before, after]) => before <= first.length && after <= second.length);
  return fitting.map(([before, after]) => `${first.slice(-before).join("")} ${second.slice(0, after).join("")}`);
}

function softmax(logits) {
  const top = logits.reduce((a, b) => Math.max(a, b));
  const shares = logits.map((logit) => Math.exp(logit - top));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / sum);
}

/** The likeliest answer, and the calibrated probability that it is right. */
function scored(shares, { weights, shifts, sure, never, tie_break, platt, low, high, steps }) {
  const number = shares.indexOf(shares.reduce((a, b) => Math.max(a, b)));
  const [second, top] = shares.slice().sort().slice(-2);
  const log = (share) => Math.log(Math.max(share, never));
  const up = Math.min(Math.max(top, sure), 1 - sure);
  const entropy = -shares.reduce((sum, share) => sum + share * log(share), 0);
  const features = [Math.log(up) - Math.log1p(-up), log(top) - log(second), entropy];
  const raw = features.reduce((sum, feature, each) => sum + weights[each] * feature, shifts[number]);
  const probability = platt
    ? (1 + Math.tanh((platt[0] * raw + platt[1]) / 2)) / 2
    : steps[low.filter((knot) => knot <= raw).length + high.filter((knot) => knot < raw).length];
  return { number, score: (1 - tie_break) * probability + (tie_break * (1 + raw / (1 + Math.abs(raw)))) / 2 };
}

/** The arrays of a safetensors file: a length, a header in JSON, and then their numbers. */
function arraysOf(file) {
  const start = 8 + new DataView(file).getUint32(0, true);
  const { __metadata__, ...listed } = JSON.parse(new TextDecoder().decode(file.slice(8, start)));
  const read = ({ dtype, data_offsets: [from, to] }) => new TYPES[dtype](file.slice(start + from, start + to));
  return Object.fromEntries(Object.entries(listed).map(([name, told]) => [name, read(told)]));
}
