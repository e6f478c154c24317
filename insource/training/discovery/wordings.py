"""From a log to wordings: requests with the same system prompt, template, tools and response schema.

It knows examples; not what their answers say. A constant counts where at least `support` requests have it; what few
have is thrown together, so that tens of thousands of one-off prompts cost no more than their count.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from insource.inputs import last_of_user, slots_of
from insource.training.discovery.templates import SAMPLE, Literals, fixed_texts, mine
from insource.types import Example, Request

NO_TEMPLATE: Literals = ("", "")
VARIED = "\0varied"
"""Stands for texts of which each is too rare to be a constant."""

TASK_HEADER = "x-insource-task"
FEWEST = 20
SHARE = 0.0005
PASSES = 3

SchemaOf = Callable[[Request], str | None]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the user's text: the task that the request names, system prompt, tools, schema, turns before.

    `system` is an exact prompt, or VARIED; `system_template` the fixed texts of a template that the prompts follow.
    `schema` is a name or digest as `match.schema` takes it; `tools` and `before` are digests.
    """

    task: str | None = None
    system: str | None = None
    system_template: Literals | None = None
    schema: str | None = None
    tools: str | None = None
    before: str | None = None

    @property
    def system_known(self) -> bool:
        """Whether the system prompt, or its template, is fixed: then a word will do for a template of the user's."""
        return self.system_template is not None or self.system not in (None, VARIED)


@dataclass(frozen=True, slots=True)
class Wording:
    """One way in which a job is asked for: its frame, the template of the user's text, and its requests by number."""

    frame: Frame
    literals: Literals
    rows: NDArray[np.intp]

    @property
    def constant(self) -> bool:
        """Whether anything besides the turns is fixed."""
        frame = self.frame
        return bool(frame.task or frame.schema or frame.tools or frame.system_known or self.literals != NO_TEMPLATE)

    def variable(self, text: str) -> str:
        """Return what of a user's text is not fixed: its slots, one to a line."""
        if self.literals == NO_TEMPLATE:
            return text
        return "\n".join(slots_of(text, self.literals) or [text])


@dataclass(frozen=True, slots=True)
class Grouped:
    """The wordings, largest first; `rare` requests stand in groups that are too small, `textless` have no text."""

    wordings: tuple[Wording, ...]
    support: int
    rare: int
    textless: int


def support_for(requests: int) -> int:
    """Return how many requests make a constant: one in 2,000, at least 20."""
    return max(FEWEST, int(SHARE * requests))


def text_of_user(request: Request) -> str | None:
    """Return the user's last text, whole; None where there is none."""
    text = last_of_user(request)
    return text if text and not text.isspace() else None


def group(examples: Sequence[Example], schema_of: SchemaOf, progress: Progress) -> Grouped:
    """Return the wordings of a log. `schema_of` names the schema a request asks for, as `match.schema` takes it."""
    support = support_for(len(examples))
    frames: dict[Frame, list[int]] = defaultdict(list)
    textless = 0
    found = _frames(examples, schema_of, support, progress)
    for number, frame in enumerate(found):
        if frame is None:
            textless += 1
        else:
            frames[frame].append(number)
    wordings: list[Wording] = []
    done = textless
    for frame, rows in sorted(frames.items(), key=lambda item: (-len(item[1]), item[1][0])):
        if len(rows) >= support:
            wordings += _wordings(frame, rows, examples, support)
        done += len(rows)
        progress(done, len(examples))
    kept = [wording for wording in wordings if len(wording.rows) >= support]
    rare = len(examples) - textless - sum(len(wording.rows) for wording in kept)
    kept.sort(key=lambda wording: (-len(wording.rows), int(wording.rows[0])))
    return Grouped(tuple(kept), support, rare, textless)


def _wordings(frame: Frame, rows: Sequence[int], examples: Sequence[Example], support: int) -> list[Wording]:
    """Return the wordings in one frame; the miner looks at a sample, and again at what no template fitted."""
    left = [(row, text_of_user(examples[row].request) or "") for row in rows]
    followed: dict[Literals, list[int]] = defaultdict(list)
    for _ in range(PASSES):
        sampled, before = len(left) > SAMPLE, left
        templates = mine([text for _, text in left], support) if len(left) >= support else []
        left = []
        for row, text in before:
            fitting = next((literals for literals in templates if slots_of(text, literals) is not None), None)
            if fitting is None:
                left.append((row, text))
            else:
                followed[fitting].append(row)
        if not sampled or len(left) == len(before):
            break
    alike = fixed_texts([text for _, text in left], 1) if left and not followed and frame.system_known else None
    followed[alike or NO_TEMPLATE] = [row for row, _ in left]
    found = ((literals, np.array(numbers, np.intp)) for literals, numbers in followed.items() if numbers)
    return [Wording(frame, literals, numbers) for literals, numbers in found]


def _frames(
    examples: Sequence[Example], schema_of: SchemaOf, support: int, progress: Progress
) -> Iterable[Frame | None]:
    """Give each request's frame, None where it has no text. Digests of texts are counted, not the texts."""
    systems = Counter(_key(example.request.system_prompt) for example in examples)
    earlier = [_before(example.request) for example in examples]
    befores = Counter(earlier)
    templates = _system_templates(examples, systems, support)
    for number, example in enumerate(examples):
        if number % 5_000 == 0:
            progress(0, len(examples))
        request = example.request
        if text_of_user(request) is None:
            yield None
            continue
        system, template = request.system_prompt, None
        if system is not None and systems[_key(system)] < support:
            template = next((literals for literals in templates if slots_of(system, literals) is not None), None)
            system = VARIED if template is None else None
        before = earlier[number]
        if before is not None and befores[before] < support:
            before = VARIED
        task = example.task or request.headers.get(TASK_HEADER)
        yield Frame(task, system or None, template, schema_of(request), _tools(request), before)


def _system_templates(examples: Sequence[Example], systems: Mapping[str | None, int], support: int) -> list[Literals]:
    seen: dict[str | None, str] = {}
    for example in examples:
        system = example.request.system_prompt
        if system and systems[_key(system)] < support:
            seen.setdefault(_key(system), system)
    rare = list(seen.values())
    return mine(rare, support) if len(rare) >= support else []


def _before(request: Request) -> str | None:
    """Return a digest of the turns before the user's last text, the system prompt apart; None where there are none."""
    last = max((place for place, message in enumerate(request.messages) if message.role == "user"), default=0)
    first = 1 if request.system_prompt is not None else 0
    earlier = request.messages[first:last]
    return _digest([(message.role, message.content) for message in earlier]) if earlier else None


def _tools(request: Request) -> str | None:
    tools = request.fields.get("tools") or request.fields.get("functions")
    return _digest(tools) if tools else None


def _key(text: str | None) -> str | None:
    return None if not text else text if len(text) <= 64 else _digest(text)


def _digest(value: object) -> str:
    try:
        data = msgspec.json.encode(value, order="deterministic")
    except (TypeError, ValueError, RecursionError):
        data = repr(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()
