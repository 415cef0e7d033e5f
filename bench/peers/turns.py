"""What the peers in Python have in common: clients that play turn after turn, in a process for each core, and figures.

A turn has ten steps; a step has three durable writes: where the model is asked (placed), what it answered with the start
of the tool, and the tool's result of 1 KiB. A peer says how it makes something durable, and no more.
"""

import json
import multiprocessing
import os
import random
import sys
import threading
import time

STEPS = 10
WORDS = "the order was paid twice and customer asks for a refund of second charge please look at invoice".split()


def text(size):
    """Something like prose. Few different ones, made once: it is not the writing of it that is measured."""
    return random.choice(TEXTS)[:size]


TEXTS = [" ".join(random.choice(WORDS) for _ in range(400)) for _ in range(64)]


def writes(step):
    """The three things of a step."""
    placed = {"kind": "placed", "step": step, "offer": "model/global/provider", "why": text(150)}
    replied = {"kind": "replied", "step": step, "call": {"name": "work", "arguments": {"step": step}}, "usage": [100, 50]}
    finished = {"kind": "tool finished", "step": step, "output": text(1024)}
    return placed, replied, finished


class Pace:
    """Notes how long each step takes: from one result that is durable to the next."""

    def __init__(self):
        self.took = []
        self.since = None

    def turn_begins(self):
        self.since = None

    def step_ends(self):
        now = time.perf_counter()
        if self.since is not None:
            self.took.append(now - self.since)
        self.since = now


def _client(make, at, url, begins, ends, paces, ready):
    pace = Pace()
    turn = make(url, at, pace)
    turn()  # whatever is done once
    pace.took.clear()
    ready.wait()
    while time.time() < begins.value:
        time.sleep(0.01)  # tidy allows sleep: all processes begin at the same time
    n_steps = 0
    while time.time() < ends.value:
        pace.turn_begins()
        turn()
        n_steps += STEPS
    paces.append((n_steps, pace.took, time.time()))


def _process(module, n_process, clients, url, begins, ends, answers, ready):
    peer = __import__(module)
    if hasattr(peer, "prepare"):
        peer.prepare(url, n_process)
    paces = []
    threads = [
        threading.Thread(target=_client, args=(peer.make, f"{n_process}-{n}", url, begins, ends, paces, ready))
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put(paces)
    if hasattr(peer, "end"):
        peer.end()


def main():
    """`turns.py PEER URL CLIENTS SECONDS`: prints the figures as JSON."""
    module, url, clients, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    peer = __import__(module)
    if hasattr(peer, "install"):
        peer.install(url)
    spawn = multiprocessing.get_context("spawn")
    n_processes = min(os.cpu_count() or 1, clients)
    begins, ends = spawn.Value("d", 1e18), spawn.Value("d", 1e18)
    answers, ready = spawn.Queue(), spawn.Barrier(clients + 1)
    processes = []
    for n in range(n_processes):
        share = clients // n_processes + (1 if n < clients % n_processes else 0)
        args = (module, n, share, url, begins, ends, answers, ready)
        processes.append(spawn.Process(target=_process, args=args))
    for process in processes:
        process.start()
    ready.wait()
    ends.value = time.time() + 0.2 + seconds
    begins.value = time.time() + 0.2
    paces = [pace for _ in processes for pace in answers.get()]
    for process in processes:
        process.join()
    took = sorted(it for _, each, _ in paces for it in each)
    at = lambda part: 1e3 * took[min(int(len(took) * part), len(took) - 1)] if took else 0.0
    # A turn that was begun in time is played to its end.
    steps, lasted = sum(n for n, _, _ in paces), max(ended for _, _, ended in paces) - begins.value
    print(json.dumps({"steps": steps, "per_second": steps / lasted, "p50_ms": at(0.5), "p99_ms": at(0.99)}))


if __name__ == "__main__":
    main()
