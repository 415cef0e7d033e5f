"""What can be read of a session afterwards: items, turns, the items of a turn, subagents, traces; page by page."""

import pytest

from play import CONFIG, Handlers, began, message, rested, sessions_of, status_error, text, turns, until
from server import serving


@pytest.fixture(scope="module")
def server():
    with serving(CONFIG) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def long(client):
    """A session of three turns, two of them with tools."""
    session = rested(client)
    for _ in range(2):
        with sessions_of(client).stream(session.id, input="two tools", tool_handlers=Handlers()) as stream:
            stream.until_done()
    return session


def pages(listing, **more):
    """Every id, and how many pages it took, in one order."""
    page, ids, n = listing(limit=3, **more), [], 0
    while True:
        n += 1
        assert len(page.data) <= 3
        ids += [it.id for it in page.data]
        if not page.has_next_page():
            return ids, n
        page = page.get_next_page()


def test_items_in_both_orders(client, long):
    items = sessions_of(client).items
    whole = [it.id for it in items.list(long.id, order="asc", limit=100)]
    assert len(whole) == len(set(whole)) == 2 + 2 * 7
    assert pages(lambda **more: items.list(long.id, **more), order="asc") == (whole, 6)
    assert pages(lambda **more: items.list(long.id, **more), order="desc") == (whole[::-1], 6)
    assert [it.id for it in items.list(long.id, limit=2).data] == whole[:-3:-1]
    assert [it.id for it in items.list(long.id, order="asc", after=whole[4])] == whole[5:]
    raw = items.with_raw_response.list(long.id, limit=2).http_response.json()
    assert {"data", "first_id", "last_id", "has_more"} <= set(raw)
    assert (raw["first_id"], raw["last_id"], raw["has_more"]) == (whole[-1], whole[-2], True)
    status_error(lambda: items.list(long.id, limit=0), 400)
    status_error(lambda: items.list(long.id, order="up"), 400)
    assert status_error(lambda: items.list(long.id, after="item_nobody"), 404).param == "after"


def test_turns_and_their_items(client, long):
    sessions = sessions_of(client)
    all_turns = turns(client, long.id)
    ids = [it.id for it in all_turns]
    assert len(ids) == 3 and [it.status for it in all_turns] == ["completed"] * 3
    assert [it.created_at for it in all_turns] == sorted(it.created_at for it in all_turns)
    assert [it.id for it in sessions.turns.list(long.id)] == ids[::-1]
    assert [it.id for it in sessions.turns.list(long.id, order="asc", limit=1)] == ids
    assert [it.id for it in sessions.turns.list(long.id, order="asc", after=ids[0])] == ids[1:]
    for turn in all_turns:
        assert sessions.turns.retrieve(turn.id, session_id=long.id).model_dump() == turn.model_dump()
    whole = [it.id for it in sessions.items.list(long.id, order="asc", limit=100)]
    found = []
    for turn in all_turns:
        of_turn, _ = pages(lambda **more: sessions.turns.items.list(turn.id, session_id=long.id, **more), order="asc")
        back, _ = pages(lambda **more: sessions.turns.items.list(turn.id, session_id=long.id, **more), order="desc")
        assert back == of_turn[::-1]
        found += of_turn
    assert found == whole
    status_error(lambda: sessions.turns.retrieve("turn_nobody", session_id=long.id), 404)
    status_error(lambda: sessions.turns.items.list("turn_nobody", session_id=long.id), 404)
    other = rested(client)
    status_error(lambda: sessions.turns.retrieve(ids[0], session_id=other.id), 404)


def test_what_is_told_live_is_what_is_listed(client):
    events = list(began(client, "slow", stream=True))
    session_id = events[0].session.id
    done = {event.item.id: event.item for event in events if event.type.endswith("item.done")}
    listed = {it.id: it for it in sessions_of(client).items.list(session_id)}
    assert set(done) < set(listed)
    for item_id, item in done.items():
        assert listed[item_id].to_dict() == item.to_dict()
    [added] = [it.item for it in events if it.type.endswith("item.added") and getattr(it.item, "role", "") == "user"]
    assert listed[added.id].to_dict() == added.to_dict()
    assert text(added) == "slow"
    last = events[-1].session
    assert sessions_of(client).retrieve(session_id).model_dump() == last.model_dump()


def test_there_are_no_subagents(client, long):
    subagents = sessions_of(client).subagents
    page = subagents.list(long.id)
    assert (page.data, page.has_more) == ([], False)
    for call in (
        lambda: subagents.retrieve("agent_nobody", session_id=long.id),
        lambda: subagents.items.list("agent_nobody", session_id=long.id),
        lambda: subagents.turns.list("agent_nobody", session_id=long.id),
        lambda: subagents.turns.retrieve("turn_x", session_id=long.id, subagent_id="agent_nobody"),
        lambda: subagents.turns.items.list("turn_x", session_id=long.id, subagent_id="agent_nobody"),
        lambda: subagents.list("sess_nobody"),
    ):
        status_error(call, 404)


def test_a_session_that_waits_can_be_read(client):
    session = until(client, began(client, "weather").id, "requires_action")
    items = list(sessions_of(client).items.list(session.id, order="asc"))
    assert [it.type for it in items] == ["message", "function_call"]
    sessions_of(client).events.create(session.id, events=[message("hurry")])
    assert [it.type for it in sessions_of(client).items.list(session.id, order="asc")][:2] == ["message", "function_call"]
