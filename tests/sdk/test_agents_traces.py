"""Traces: OTLP of what a session did."""

import pytest

from play import CONFIG, Handlers, began, rested, sessions_of, status_error, until
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


def spans(trace):
    for resource in trace.otlp["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def test_traces_are_otlp_of_what_happened(client, long):
    traces = list(sessions_of(client).traces.list(long.id, order="asc"))
    assert traces and all((it.object, it.session_id) == ("agent.session.trace", long.id) for it in traces)
    assert [it.id for it in sessions_of(client).traces.list(long.id, limit=1)] == [it.id for it in traces][::-1]
    every = [span for trace in traces for span in spans(trace)]
    ids = [span["spanId"] for span in every]
    assert len(ids) == len(set(ids))
    for trace in traces:
        own = {span["spanId"] for span in spans(trace)}
        for span in spans(trace):
            assert len(span["traceId"]) == 32 and len(span["spanId"]) == 16
            assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
            assert not span.get("parentSpanId") or span["parentSpanId"] in own
    # Three turns, of which two asked the model three times and called two functions.
    assert len(traces) == 3
    assert sum("weather" in span["name"] for span in every) == 2
    assert sum("clock" in span["name"] for span in every) == 2


def test_traces_page_by_page_and_of_sessions_that_are_there(client, long):
    ids = [it.id for it in sessions_of(client).traces.list(long.id, order="asc", limit=1)]
    assert [it.id for it in sessions_of(client).traces.list(long.id, order="desc", limit=2)] == ids[::-1]
    assert [it.id for it in sessions_of(client).traces.list(long.id, order="asc", after=ids[0])] == ids[1:]
    waiting = until(client, began(client, "weather").id, "requires_action")
    assert len(list(sessions_of(client).traces.list(waiting.id))) <= 1
    sessions_of(client).delete(long.id)
    status_error(lambda: sessions_of(client).traces.list(long.id), 404)
