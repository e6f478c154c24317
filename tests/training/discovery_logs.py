"""Logs for the tests of discovery: tickets and reviews from small word lists, behind templates, and free chat."""

import random

from insource.types import Example, Message, Request

TOPICS = {
    "billing": "invoice charged refund payment receipt amount fee subscription price card".split(),
    "login": "password login account locked reset username email code verify access".split(),
    "delivery": "parcel courier late shipping address package tracking arrived driver door".split(),
}
FILLER = (
    "today please again because never still found hello yesterday maybe customer order number team since week also "
    "really cannot very thank morning website phone could everything before after sometimes nothing family question"
).split()
MOODS = {"yes": "terrible awful rude broken worst angry".split(), "no": "great lovely perfect kind nice best".split()}
HELPFUL = "You are a helpful assistant."


def sentence(coin, words):
    chosen = [coin.choice(words) for _ in range(3)] + [coin.choice(FILLER) for _ in range(coin.randint(3, 12))]
    coin.shuffle(chosen)
    return " ".join(chosen).capitalize() + coin.choice([".", "!", "", "?"])


def asking(number, text, answer, system=None, **more):
    messages = ([Message("system", system)] if system is not None else []) + [Message("user", text)]
    known = {key: more.pop(key) for key in ("fields", "headers", "model") if key in more}
    return Example(Request(f"log:{number}", tuple(messages), **known), answer, **more)


def tickets(seed, count):
    """(text, topic), the topic told by its words in nearly all."""
    coin = random.Random(seed)
    for _ in range(count):
        topic = coin.choice(list(TOPICS))
        yield sentence(coin, TOPICS[topic]), topic


def reviews(seed, count):
    """(text, yes or no), whether the text is angry."""
    coin = random.Random(seed)
    for _ in range(count):
        answer = coin.choice(list(MOODS))
        yield sentence(coin, MOODS[answer] + FILLER[:4]), answer


def chats(seed, count):
    coin = random.Random(seed)
    words = [*FILLER, *(word for words in TOPICS.values() for word in words)]
    for _ in range(count):
        yield sentence(coin, words), sentence(coin, words)


def log_of(*parts):
    """Examples of (system, template, rows) parts, shuffled; and for each the number of its part."""
    lines = [(part, system, template.replace("{}", text), answer)
             for part, (system, template, rows) in enumerate(parts) for text, answer in rows]  # fmt: skip
    random.Random(0).shuffle(lines)
    examples = [asking(number, text, answer, system) for number, (_, system, text, answer) in enumerate(lines)]
    return examples, [part for part, *_ in lines]
