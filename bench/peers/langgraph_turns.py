"""LangGraph with its PostgreSQL checkpointer and durability "sync": a thread for each turn, a superstep (and with it a
checkpoint) for each durable write."""

import operator
import uuid
from typing import Annotated, TypedDict

import psycopg
import turns
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row


class State(TypedDict):
    messages: Annotated[list, operator.add]
    step: int


def connect(url):
    return psycopg.connect(url, autocommit=True, prepare_threshold=0, row_factory=dict_row)


def install(url):
    with connect(url) as connection:
        PostgresSaver(connection).setup()


def make(url, at, pace):
    def place(state):
        if state["step"] > 0:
            pace.step_ends()
        return {"messages": [turns.writes(state["step"])[0]]}

    def reply(state):
        return {"messages": [turns.writes(state["step"])[1]]}

    def tool(state):
        return {"messages": [turns.writes(state["step"])[2]], "step": state["step"] + 1}

    graph = StateGraph(State)
    graph.add_node("place", place)
    graph.add_node("reply", reply)
    graph.add_node("tool", tool)
    graph.add_edge(START, "place")
    graph.add_edge("place", "reply")
    graph.add_edge("reply", "tool")
    graph.add_conditional_edges("tool", lambda state: END if state["step"] == turns.STEPS else "place")
    app = graph.compile(checkpointer=PostgresSaver(connect(url)))

    def turn():
        config = {"configurable": {"thread_id": str(uuid.uuid4())}, "recursion_limit": 100}
        app.invoke({"messages": [], "step": 0}, config, durability="sync")

    return turn
