"""DBOS: a workflow for each turn, a DBOS step for each durable write."""

import turns
from dbos import DBOS


@DBOS.step()
def record(what):
    return what


@DBOS.workflow()
def turn(at):
    for step in range(turns.STEPS):
        for what in turns.writes(step):
            record(what)
        PACES[at].step_ends()


PACES = {}


def start(url, name):
    config = {"name": "bench", "system_database_url": url, "executor_id": name, "log_level": "ERROR",
              "run_admin_server": False, "enable_otlp": False}
    DBOS(config=config)
    DBOS.launch()


def install(url):
    start(url, "install")
    DBOS.destroy()


def prepare(url, n_process):
    start(url, f"process-{n_process}")


def end():
    DBOS.destroy()


def make(url, at, pace):
    PACES[at] = pace
    return lambda: turn(at)
