"""Absurd: a task for each turn, a step (a checkpoint) for each durable write. A client claims what it spawned."""

import os
import subprocess
import sys

import psycopg
import turns
from absurd_sdk import Absurd


def install(url):
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regnamespace('absurd')").fetchone()[0]:
            return
    absurdctl = os.path.join(os.path.dirname(sys.executable), "absurdctl")
    subprocess.run([absurdctl, "init", "-d", url], check=True, stdout=sys.stderr)


def make(url, at, pace):
    app = Absurd(psycopg.connect(url, autocommit=True), queue_name=f"bench_{at.replace('-', '_')}")
    app.create_queue()

    @app.register_task(name="turn")
    def turn(params, ctx):
        for step in range(turns.STEPS):
            for n, what in enumerate(turns.writes(step)):
                ctx.step(f"{step}/{n}", lambda what=what: what)
            pace.step_ends()

    def play():
        app.spawn("turn", {})
        app.work_batch(worker_id=at)

    return play
