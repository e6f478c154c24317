// From a text to what the model takes, in the same way as insource does in Python. It sends nothing.

const BLANK = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // Python's str.isspace
const SOMETHING = new RegExp(`[^${BLANK}]`);
const WORDS = new RegExp(`[\\p{L}\\p{N}_]+|[^\\p{L}\\p{N}_${BLANK}]`, "gu");

/** The text that the specialist sees of a user's message, or null where there is none. */
export function seen(text, { max_characters, templates }) {
  const clipped = first(text, max_characters);
  for (const fixed of templates) {
    const slots = inSlots(clipped, fixed);
    if (slots !== null) return slots;
  }
  return SOMETHING.test(clipped) ? clipped : null;
}

/** What stands in a template's slots, a line for each, or null where the text does not follow the template. */
function inSlots(text, fixed) {
  const [head, tail] = [fixed[0], fixed[fixed.length - 1]];
  const end = text.length - tail.length;
  let place = head.length;
  if (end <= place || !text.startsWith(head) || !text.endsWith(tail)) return null;
  const slots = [];
  for (const literal of fixed.slice(1, -1)) {
    const there = text.indexOf(literal, place + 1);
    if (there < 0 || there + literal.length > end - 1) return null;
    slots.push(text.slice(place, there));
    place = there + literal.length;
  }
  slots.push(text.slice(place, end));
  return place < end && slots.some((slot) => SOMETHING.test(slot)) ? slots.join("\n") : null;
}

/** The first characters of a text, counted as Python counts them: by code point. */
function first(text, most) {
  return text.length <= most ? text : [...text.slice(0, 2 * most)].slice(0, most).join("");
}

/** The words of a lower-cased text, with its punctuation. */
export function wordsOf(lowered) {
  return lowered.match(WORDS) ?? [];
}

/** A reader of n-grams: `grams` are the known words and characters of ngrams.json. */
export function ngramReader(grams) {
  const numbers = (names) => new Map(names.map((name, number) => [name, number]));
  const [words, characters] = [numbers(grams.words), numbers(grams.characters)];
  const known = (names, places) => Int32Array.from(names.filter((name) => places.has(name)), (name) => places.get(name));
  return (text) => {
    const lowered = text.toLowerCase();
    const single = wordsOf(lowered);
    const pairs = single.slice(1).map((word, before) => `${single[before]} ${word}`);
    const line = [" ", ...lowered.split(new RegExp(`[${BLANK}]+`)).filter(Boolean).join(" "), " "];
    const cut = [2, 3, 4, 5].flatMap((order) => line.slice(order - 1).map((_, at) => line.slice(at, at + order).join("")));
    return { "grams.words": known([...single, ...pairs], words), "grams.characters": known(cut, characters) };
  };
}

/** A reader of wordpieces: `tokenizer` is a tokenizer.json of BERT's kind. */
export function tokenReader(tokenizer, { max_tokens, windows, overlap, max_characters }) {
  const { vocab, unk_token = "[UNK]", continuing_subword_prefix: prefix = "##", max_input_chars_per_word: longest = 100 } = tokenizer.model;
  const pieces = new Map(Object.entries(vocab));
  const marks = new Map(tokenizer.added_tokens.map((token) => [token.content, token.id]));
  const escaped = [...marks.keys()].sort((a, b) => b.length - a.length).map((mark) => mark.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  const split = new RegExp(`(${escaped.join("|")})`, "u");
  const ends = tokenizer.post_processor.special_tokens;
  const [start, stop] = tokenizer.post_processor.single.filter((piece) => piece.SpecialToken).map((piece) => ends[piece.SpecialToken.id].ids[0]);
  const normalise = normaliser(tokenizer.normalizer);

  const cut = (word) => {
    const characters = [...word];
    if (characters.length > longest) return [pieces.get(unk_token)];
    const found = [];
    for (let from = 0; from < characters.length; ) {
      let to = characters.length;
      const piece = () => (from ? prefix : "") + characters.slice(from, to).join("");
      while (to > from && !pieces.has(piece())) to--;
      if (to === from) return [pieces.get(unk_token)];
      found.push(pieces.get(piece()));
      from = to;
    }
    return found;
  };

  return (text) => {
    const readable = first(text, max_characters).replace(/\p{Cs}/gu, "?");
    const ids = readable.split(split).flatMap((part) =>
      marks.has(part) ? [marks.get(part)] : (normalise(part).match(PARTS) ?? []).flatMap(cut),
    );
    const [room, all, lengths] = [max_tokens - 2, [], []]; // two are for start and stop
    for (let from = 0; lengths.length < windows && (from === 0 || from + overlap < ids.length); from += room - overlap) {
      const window = [start, ...ids.slice(from, from + room), stop];
      all.push(...window);
      lengths.push(window.length);
    }
    return windows === 1 ? { input_ids: Int32Array.from(all) } : { all_ids: Int32Array.from(all), windows: Int32Array.from(lengths) };
  };
}

const PUNCTUATION = "!-/:-@\\[-`{-~\\p{P}";
const PARTS = new RegExp(`[${PUNCTUATION}]|[^${PUNCTUATION}\\p{White_Space}]+`, "gu");
const DROPPED = /(?![\t\n\r])[\0\ufffd\p{Cc}\p{Cf}\p{Co}]/gu;
const IDEOGRAPHS = /[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

/** BERT's cleaning: control characters go, ideographs stand alone, accents and capitals go where the model has none. */
function normaliser({ clean_text, handle_chinese_chars, strip_accents, lowercase }) {
  return (text) => {
    if (clean_text) text = text.replace(DROPPED, "").replace(/\p{White_Space}/gu, " ");
    if (handle_chinese_chars) text = text.replace(IDEOGRAPHS, " $& ");
    if (strip_accents ?? lowercase) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lowercase ? Array.from(text, (character) => character.toLowerCase()).join("") : text;
  };
}
