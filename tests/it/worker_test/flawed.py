#!/usr/bin/env python3
"""The worker of examples/worker-python with one flaw: `flawed.py FLAW`. Each row of `buzzer worker-test` notices one."""

import asyncio
import os
import runpy
import signal
import sys
import uuid
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples/worker-python"
sys.path.insert(0, str(EXAMPLE))

import runs
import wire

FLAWS = {}


def flaw(of, method):
    """`flawed(original, self, …)` takes the place of a method."""

    def register(flawed):
        original = getattr(of, method)
        inner = lambda self, *arguments, **named: flawed(original, self, *arguments, **named)
        FLAWS[flawed.__name__.replace("_", "-")] = lambda: setattr(of, method, inner)
        return flawed

    return register


@flaw(wire.Wire, "obey")
async def announce(obey, self, message):
    """Does not hear that it is asked."""
    if b"announce" not in message.body:
        await obey(self, message)


@flaw(wire.Wire, "__init__")
def contradiction(init, self, kind, runs):
    """Says what the API would refuse."""
    init(self, kind | {"input_schema": {"minLength": 2, "maxLength": 1, "type": "string"}, "example": None}, runs)


@flaw(wire.Wire, "__init__")
def untitled(init, self, kind, runs):
    """Says what cannot be read."""
    init(self, {name: said for name, said in kind.items() if name != "title"}, runs)


@flaw(runs.Run, "__init__")
def suspect(init, self, message):
    """Does not look how often a request came back."""
    init(self, message)
    self.headers = {name: value for name, value in self.headers.items() if name != "x-delivery-count"}


@flaw(wire.Wire, "publish")
async def run(publish, self, key, type, body, run=None, headers={}, exchange="replies", mandatory=False):
    """Answers under another name."""
    other = {"worker": str(uuid.uuid4())} if type == "outcome" else {}
    await publish(self, key, type, body, run, headers | other, exchange, mandatory)


@flaw(wire.Wire, "publish")
async def output(publish, self, key, type, body, run=None, headers={}, exchange="replies", mandatory=False):
    """Answers something else than it has announced."""
    await publish(self, key, type, b"{}" if type == "outcome" else body, run, headers, exchange, mandatory)


@flaw(runs.Runs, "receive")
async def big_input(receive, self, message):
    """Breaks down on what is large."""
    if len(message.body) > 500_000:
        os._exit(1)
    await receive(self, message)


@flaw(runs.Failed, "__init__")
def retry(init, self, type, detail, **_):
    """Lets nothing be tried again."""
    init(self, type, detail, final=True)


@flaw(runs.Runs, "receive")
async def unreadable(receive, self, message):
    """Throws away what it cannot read."""
    if message.type == "buzzer.request.v1":
        await receive(self, message)
    else:
        await message.ack()


@flaw(runs.Runs, "signal")
async def progress(tell, self, run, body):
    """Gives everything that it tells the same number."""
    run.n = 0
    await tell(self, run, body)


@flaw(wire.Wire, "beat")
async def beat(_, self, leaving=False):
    """Does not say what it holds."""
    await self.publish("pulse", "beat", {"worker": self.worker, "held": [], "leaving": leaving})


@flaw(runs.Runs, "cancel")
def cancel(*_):
    """Does not stop."""


@flaw(runs.Runs, "receive")
async def duplicate(_, self, message):
    """Runs whatever comes."""
    run = self.held[message.message_id] = runs.Run(message)
    run.serving = asyncio.create_task(self.serve(run))


@flaw(runs.Run, "__init__")
def alone(init, self, message):
    """Takes a suspect for any other request."""
    init(self, message)
    self.headers = {name: value for name, value in self.headers.items() if name != "alone"}


@flaw(runs.Runs, "serve")
async def kill(serve, self, run):
    """Acknowledges before it has an outcome."""
    message, run.message = run.message, None
    await message.ack()
    await serve(self, run)


@flaw(runs.Runs, "work")
async def poison(work, self, run, turn):
    """Says that a suspect starts, and does not acknowledge it."""

    async def later(message):
        pass

    runs.acknowledge = later
    return await work(self, run, turn)


@flaw(runs.Runs, "live")
async def drain(live, self):
    """Ends at once when it is asked to stop."""
    living = asyncio.create_task(live(self))
    await asyncio.sleep(0)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    await living


FLAWS[sys.argv[1]]()
runpy.run_path(str(EXAMPLE / "worker.py"), run_name="__main__")
