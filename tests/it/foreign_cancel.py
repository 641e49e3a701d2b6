"""A cancel that comes in the very tick in which its request was taken. `foreign_cancel.py EXAMPLE` prints the outcome."""

import asyncio
import sys
from types import SimpleNamespace

sys.path.insert(0, sys.argv[1])

from runs import Runs


async def main():
    runs, answers, acknowledged = Runs({"name": "k", "slots": 1}, None), [], asyncio.Event()

    async def hand_over(key, type, body, run=None, headers={}):
        answers.append(headers["result"])

    async def ack():
        acknowledged.set()

    runs.wire.hand_over = hand_over
    headers = {"kind": "k", "dispatch": 1, "attempt": 1, "timeout-ms": 1000}
    request = {"message_id": "job/1", "type": "buzzer.request.v1", "body": b"{}", "headers": headers, "ack": ack}
    await runs.receive(SimpleNamespace(**request))
    runs.cancel(["job/1"])
    await asyncio.wait_for(acknowledged.wait(), 10)
    print(*answers)


asyncio.run(main())
