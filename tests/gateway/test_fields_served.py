"""Answers of several fields over real sockets: in the teacher's form byte for byte, of combinations that it gave."""

from datetime import UTC, datetime

from insource.backends.scripted import scripted_app
from insource.backends.specialist import open_specialist
from insource.store.artifacts import ArtifactStore
from insource.training.recipe import Recipe
from insource.training.run import train
from insource.types import Example, Match, Message, Request, Task

TASK = Task("triage", match=Match(system_prompts=("Say yes or no.",)), audit_rate=1.0)
FORMS = {
    "card urgent": '{"urgent":true,\t"team" : "Cärds", "v":1}',
    "card later": '{ "team": "C\\u00e4rds", "urgent": false, "v" : 1 }',
    "refund later": '{"team":"Refunds","urgent":false,"v":1}',
}
NEVER_GIVEN = '{"team":"Refunds","urgent":true,"v":1}'


def examples():
    told = [(f"{said} " * 3 + f"w{n % 50} w{n * 7 % 90}", FORMS[said]) for n in range(120) for said in FORMS]
    return [Example(Request(f"r{n}", (Message("user", text),)), form) for n, (text, form) in enumerate(told)]


async def test_the_reply_is_the_teachers_and_an_unseen_combination_is_a_difference(house, chat):
    store = ArtifactStore(house.home)
    made = train(examples(), TASK, Recipe(family="linear"), home=house.home, registry=house.registry, artifacts=store,
                 say=lambda _: lambda *_: None, now=lambda: datetime.now(UTC))  # fmt: skip

    def opened(version):
        found = store.open(version.digest)
        return open_specialist(found.folder, found.manifest, name=version.name, digest=found.digest, trunk=None)

    house.open_specialist = opened
    house.promote(made.version)
    asked = {f"{said} {said}": form for said, form in FORMS.items()}
    unseen = "refund later refund later refund urgent"
    house.start(upstream=scripted_app({**asked, unseen: NEVER_GIVEN}), tasks=(TASK,))
    async with house.client() as client:
        for text in (*asked, unseen):
            async with client.post("/v1/chat/completions", json=chat(text)) as reply:
                assert reply.headers["x-insource-served-by"] == "specialist:triage@1"
                content = (await reply.json())["choices"][0]["message"]["content"]
                assert content == asked.get(text, FORMS["refund later"])
        request_id = reply.headers["x-insource-request-id"]
        for said, status in (('{"urgent": true, "team": "Cärds"}', 200), (NEVER_GIVEN, 400)):
            told = {"request_id": request_id, "answer": said, "who": "anna"}
            async with client.post("/v1/insource/feedback", json=told) as reply:
                assert reply.status == status
    house.stop()
    with house.reader() as ledger:
        assert [row.audits[0].agrees for row in ledger.rows()] == [True, True, True, False]
