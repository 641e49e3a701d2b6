"""A worker's runs: from a request to its outcome. docs/guides/worker-over-amqp.md says why each step."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections import deque
from contextlib import AsyncExitStack, suppress

from wire import Wire, acknowledge


def seconds(text):
    if not (read := re.fullmatch("([0-9]+)(ms|s|m|h)", text)):
        print(f"BUZZER_DRAIN: {json.dumps(text)} is not a time, like 30s or 5m", file=sys.stderr)
        sys.exit(2)
    return float(read[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[read[2]]


DRAIN = seconds(os.environ.get("BUZZER_DRAIN", "30s"))  # so long runs go on after SIGTERM
MAX_BODY = 1 << 20  # bytes of an output, as the API's BUZZER_MAX_BODY has it
REMEMBERED = 4096


class Failed(Exception):
    """The job fails. It is tried again by its policy, not before `retry_after` seconds; never, if that is `final`."""

    def __init__(self, type, detail, title="The handler failed", retry_after=None, final=False):
        self.problem = {"type": type, "title": title, "detail": detail}
        self.headers = {"retry": "never"} if final else {"retry-after-ms": retry_after and round(retry_after * 1000)}


class Run:
    """A request that is held: taken, and not yet answered."""

    def __init__(self, message):
        self.id, self.message, self.body, self.headers = message.message_id, message, message.body, message.headers
        self.taken_at, self.started_at, self.stopped, self.n, self.news = time.monotonic(), None, None, 0, None
        self.work = None  # until it is served

    def progress(self, percent, message=None):
        """Tells how far it is. What is not sent when more is told is left out."""
        self.news = {"signal": "progress", "percent": percent, "message": message}

    def stop(self, result, reason=None):
        self.stopped = self.stopped or (result, b"", {"reason": reason})
        if self.work:
            self.work.cancel()


class Runs:
    def __init__(self, kind, handler):
        self.kind, self.handler, self.wire = kind, handler, Wire(kind, self)
        self.held, self.answered, self.canceled = {}, deque(maxlen=REMEMBERED), deque(maxlen=REMEMBERED)
        self.slots, self.door = asyncio.Semaphore(kind["slots"]), asyncio.Lock()

    async def live(self):
        """Until SIGTERM; then finishes what it has, or hands it back."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.wire.stopping.set)
        keeping = asyncio.create_task(self.wire.keep())
        await self.wire.stopping.wait()
        for patience in (DRAIN, 5):
            until = time.monotonic() + patience
            while self.held and time.monotonic() < until:
                await asyncio.sleep(0.05)
            for run in self.held.values():
                run.stop("returned", "stopping")
        with suppress(Exception):
            await self.wire.beat(leaving=True)
        keeping.cancel()

    def cancel(self, ids):
        for id in ids:  # a cancel may come before its request
            self.held[id].stop("canceled") if id in self.held else self.canceled.append(id)

    async def receive(self, message):
        run = self.held.get(message.message_id)
        if run and run.message:
            run.message = message  # delivered again: its run goes on, and answers for this one now
        elif run or message.message_id in self.answered:
            await acknowledge(message)  # only its acknowledgement was lost
        elif flaw := self.flaw(message):
            reason = {"parked-from": self.wire.queue, "parked-reason": flaw}
            await self.wire.hand_over("", "request", message.body, headers=reason, exchange="parking")
            await acknowledge(message)
        else:
            run = self.held[message.message_id] = Run(message)
            run.serving = asyncio.create_task(self.serve(run))  # one of ours: the library's end with their channel

    def flaw(self, message):
        """Why it cannot be run, if it cannot."""
        if message.type != "buzzer.request.v1" or message.headers.get("kind") != self.kind["name"]:
            return f"no request for {self.kind['name']}"
        if not message.message_id:
            return "its message_id is missing"
        for name in ("dispatch", "attempt", "timeout-ms"):
            if not isinstance(message.headers.get(name), int):
                return f"its header {name} is missing, or no number"

    async def serve(self, run):
        async with AsyncExitStack() as turn:  # what the run takes up until it is answered
            run.work = asyncio.create_task(self.work(run, turn))
            if run.stopped:  # since it was taken
                run.work.cancel()
            if run.headers.get("x-delivery-count", 0) >= 2 and not run.headers.get("alone"):
                run.stop("returned", "suspect")
            if run.id in self.canceled:
                run.stop("canceled")
            if self.wire.stopping.is_set():
                run.stop("returned", "stopping")
            await asyncio.wait([run.work])
            result, body, headers = run.stopped if run.work.cancelled() else run.work.result()
            if run.stopped and result != "succeeded":  # a success counts all the same, for the work was done
                result, body, headers = run.stopped
            headers |= {"result": result, "started-at-ms": run.started_at}
            await self.wire.hand_over("outcome", "outcome", body, run, headers)
            self.answered.append(run.id)
            del self.held[run.id]
            if run.message:
                await acknowledge(run.message)

    async def work(self, run, turn):
        alone = run.headers.get("alone", False)
        async with self.door:  # a suspect takes all slots, so that nothing runs beside it
            for _ in range(self.kind["slots"] if alone else 1):
                await turn.enter_async_context(self.slots)
        if (time.monotonic() - run.taken_at) * 1000 >= run.headers.get("expires-in-ms", float("inf")):
            return "returned", b"", {"reason": "expired"}
        run.started_at = millis()
        if alone:  # acknowledged before it runs: should it bring us down, it is not delivered to the next
            about = {"at-ms": run.started_at, "charged": True}
            await self.wire.hand_over("outcome", "started", {}, run, about)
            message, run.message = run.message, None
            await acknowledge(message)
            with suppress(Exception):  # any answer on its channel tells that the broker has the acknowledgement
                await message.channel.basic_qos(prefetch_count=self.kind["slots"])
        telling, limit = asyncio.create_task(self.tell(run)), asyncio.timeout(run.headers["timeout-ms"] / 1000)
        try:
            async with limit:
                output = json.dumps(await self.handler(run, json.loads(run.body)), allow_nan=False).encode()
            if len(output) > MAX_BODY:
                detail = f"The output has {len(output)} bytes; at most {MAX_BODY} are taken."
                raise Failed("/problems/output-too-large", detail, final=True)
            return "succeeded", output, {}
        except Exception as error:
            type = "/problems/timeout" if limit.expired() else "/problems/failed"
            failed = error if isinstance(error, Failed) else Failed(type, repr(error))
            return "failed", failed.problem, failed.headers
        finally:
            telling.cancel()

    async def tell(self, run):
        await asyncio.sleep(0.05)  # a run that ends sooner says it all with its outcome
        if not run.headers.get("alone"):
            await self.signal(run, {"signal": "started"})
        while True:
            if run.news:
                news, run.news = run.news, None
                await self.signal(run, news)
            await asyncio.sleep(0.125)  # at most ten signals a second are taken

    async def signal(self, run, body):
        run.n += 1
        with suppress(Exception):  # it may be lost
            await self.wire.publish("signal", "signal", body, run, {"n": run.n, "at-ms": millis()})


def millis():
    return time.time_ns() // 1_000_000
