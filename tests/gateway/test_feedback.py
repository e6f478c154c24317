"""What people say was the right answer: checked, durable, and refused where it is about nothing."""

import pytest

PATHS = ("/v1/insource/feedback", "/v1/feedback")


async def decided(client, chat, text="sure", **more):
    async with client.post("/v1/chat/completions", json=chat(text, **more)) as reply:
        return reply.headers["x-insource-request-id"]


async def send(client, path=PATHS[0], **body):
    async with client.post(path, json=body) as reply:
        return reply.status, await reply.json()


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_is_on_record_once_it_is_acknowledged(house, scripted, chat, path):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        request_id = await decided(client, chat)
        for _ in range(2):  # said again it is on record again
            status, told = await send(client, path, request_id=request_id, answer="no", who="anna")
    assert (status, told) == (200, {"request_id": request_id, "task": "triage", "answer": "no", "who": "anna"})
    assert house.gateway.metrics.value("insource_feedback_total", task="triage") == 2
    house.stop()
    with house.reader() as ledger:
        _, row = ledger.feedback(request_id)
    assert (row.answer, row.who, row.source, row.task) == ("no", "anna", "feedback", "triage")
    assert not house.raw.received


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"request_id": "0" * 32, "answer": "no"}, 404, "unknown_request", "is on record here"),
        ({"answer": "perhaps"}, 400, "invalid_request", "'perhaps' is no answer of task 'triage'"),
        ({"answer": ""}, 400, "invalid_request", "answer is no text"),
        ({"answer": 3}, 400, "invalid_request", "answer is no text"),
        ({}, 400, "invalid_request", "no answer; it was expected"),
        ({"answer": "no", "label": "no"}, 400, "invalid_request", "a field 'label'"),
        ({"answer": "no", "who": "x" * 201}, 400, "invalid_request", "who is no text of 1 to 200"),
    ],
)
async def test_what_is_about_nothing_is_refused(house, scripted, chat, body, status, code, says):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        body = {"request_id": await decided(client, chat), **body}
        found, told = await send(client, **body)
    assert (found, told["error"]["code"]) == (status, code)
    assert says in told["error"]["message"]
    house.stop()
    with house.reader() as ledger:
        assert [row for each in ledger.rows() for row in ledger.feedback(each.decision.request_id)] == []


async def test_a_request_of_no_task_and_a_body_that_is_none_are_refused(house, scripted, chat):
    house.start(upstream=scripted)
    async with house.client() as client:
        request_id = await decided(client, chat, "hello", system=None)
        status, told = await send(client, request_id=request_id, answer="no")
        assert (status, told["error"]["code"]) == (400, "invalid_request")
        assert "belongs to no task" in told["error"]["message"]
        async with client.post(PATHS[0], data=b"[1]") as reply:
            assert reply.status == 400
        for method, path, expected in (("GET", PATHS[0], 405), ("PUT", PATHS[1], 405), ("POST", "/v1/Feedback", 404)):
            async with client.request(method, path, data=b"{}") as reply:
                assert reply.status == expected


async def test_where_no_version_is_open_any_answer_is_taken(house, scripted, chat):
    house.start(upstream=scripted)
    async with house.client() as client:
        request_id = await decided(client, chat)
        assert (await send(client, request_id=request_id, answer="perhaps"))[0] == 200


async def test_a_page_of_another_site_may_not_send_answers(house, scripted, chat):
    house.promote(house.register())
    house.start(upstream=scripted)
    async with house.client() as client:
        body = {"request_id": await decided(client, chat), "answer": "no"}
        for path in PATHS:
            async with client.post(path, json=body, headers={"origin": "https://elsewhere.example"}) as reply:
                assert reply.status == 403
        async with client.get("/v1/insource/tasks", headers={"origin": "https://elsewhere.example"}) as reply:
            assert reply.status == 403
