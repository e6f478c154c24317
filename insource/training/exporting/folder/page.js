// The page around the specialist: a text in, the answer and its score out.

import { load } from "./specialist.js";

const find = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
let specialist;

async function start() {
  specialist = await load((done, total) => {
    find("state").textContent = `loading: ${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`;
  });
  const { name, family, threshold, promise } = specialist.card;
  document.title = find("name").textContent = name;
  find("promise").textContent =
    threshold === null
      ? `${family}. Nothing was certified, so nothing is accepted.`
      : `${family}. Accepted from a score of ${threshold.toFixed(4)}: there at most ${percent(promise.target_risk)} of the ` +
        `accepted answers differ from the reference, at confidence ${promise.confidence_level}, on requests like those it was certified on.`;
  if (threshold !== null) find("threshold").style.left = percent(threshold);
  find("threshold").hidden = threshold === null;
  find("ask").disabled = false;
  find("state").textContent = "ready. Nothing leaves this device: the network may be cut now.";
}

async function ask() {
  find("ask").disabled = true;
  const started = performance.now();
  const { answer, score, accepted } = await specialist.answer(find("text").value);
  const milliseconds = performance.now() - started;
  find("answer").textContent = answer;
  find("verdict").textContent = accepted ? "accepted" : "escalate";
  find("verdict").className = accepted ? "accepted" : "escalate";
  find("score").textContent = `score ${score.toFixed(4)}`;
  find("bar").style.width = percent(score);
  find("time").textContent = `${milliseconds.toFixed(1)} ms`;
  Object.assign(find("result").dataset, { answer, score, accepted, milliseconds });
  find("result").hidden = false;
  find("ask").disabled = false;
}

function failed(error) {
  find("state").textContent = error.message;
  find("state").className = "failed";
}

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask().catch(failed);
});
find("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  if (!find("ask").disabled) ask().catch(failed);
});
start().catch(failed);
