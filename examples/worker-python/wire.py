"""A worker's line to the broker: what it is told, what it says. docs/guides/worker-over-amqp.md says why each step."""

import asyncio
import json
import os
import random
import socket
import sys
import uuid
from contextlib import suppress
from datetime import datetime, timezone

import aio_pika
from yarl import URL

BROKER = URL(os.environ.get("BUZZER_BROKER", "amqp://guest:guest@127.0.0.1:5672/%2f")) % {"heartbeat": 10}
PREFIX = os.environ.get("BUZZER_PREFIX", "buzzer")
DEADLINE = 10  # seconds: RabbitMQ promises no time for its answers, and some never come


class Wire:
    """`runs` holds the runs, and is told of requests and cancels."""

    def __init__(self, kind, runs):
        self.kind, self.runs, self.queue = kind, runs, f"{PREFIX}.requests.{kind['name']}.v1"
        self.worker, self.started_at = str(uuid.uuid4()), datetime.now(timezone.utc).isoformat()
        self.publishing, self.stopping = None, asyncio.Event()

    async def keep(self):
        """For ever, over one line after the other. Runs go on meanwhile, and their outcomes wait for the next."""
        while True:
            try:
                await self.line()
            except Exception as error:
                print(f"the line to the broker broke: {error!r}", file=sys.stderr)
            await asyncio.sleep(random.uniform(0.2, 3))

    async def line(self):
        # Two connections: from one that publishes, a broker under an alarm reads nothing, no acknowledgements either.
        connect = lambda: aio_pika.connect(BROKER, timeout=DEADLINE)
        async with await connect() as out, await connect() as back:
            broken, hearing = asyncio.Event(), await back.channel()
            self.publishing = await out.channel(on_return_raises=True)
            for part in (out, back, self.publishing, hearing):
                part.close_callbacks.add(lambda *_: broken.set())
            control = await hearing.declare_queue(f"{PREFIX}.control.{self.worker}", exclusive=True, auto_delete=True)
            await control.bind(f"{PREFIX}.control")
            await control.consume(self.obey, no_ack=True)
            print(f"connected, for jobs of {self.kind['name']}", file=sys.stderr)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.pulse())
                tasks.create_task(self.take(back, broken))
                await broken.wait()
                raise ConnectionError("it was closed")

    async def pulse(self):
        while True:
            await self.announce()
            for _ in range(6):
                await self.beat()
                await asyncio.sleep(5)

    async def announce(self):
        kinds = [] if self.stopping.is_set() else [self.kind]
        who = {"worker": self.worker, "host": socket.gethostname(), "version": "1.0.0", "started_at": self.started_at}
        await self.publish("pulse", "announce", who | {"kinds": kinds})

    async def beat(self, leaving=False):
        await self.publish("pulse", "beat", {"worker": self.worker, "held": list(self.runs.held), "leaving": leaving})

    async def obey(self, message):
        word = json.loads(message.body)
        if word["control"] == "cancel":
            self.runs.cancel(word["runs"])
        elif word["control"] == "announce":
            await self.announce()
            await self.beat()
        elif word["control"] == "refused" and word["worker"] == self.worker:
            print(f"what it says of its kind is not taken: {word['kinds']}", file=sys.stderr)

    async def take(self, connection, broken):
        """Consumes from the queue of the kind, until the worker is to stop."""
        while not self.stopping.is_set():
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=self.kind["slots"])
            queue = await channel.get_queue(self.queue, ensure=False)
            try:
                tag = await queue.consume(self.runs.receive)
            except aio_pika.exceptions.ChannelNotFoundEntity:  # the API makes it once it has heard the announcement
                await asyncio.sleep(0.5)
                continue
            channel.close_callbacks.add(lambda *_: broken.set())
            # The queue was deleted: the next announcement brings it back.
            (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(lambda *_: broken.set())
            await self.stopping.wait()
            await self.announce()
            await queue.cancel(tag)

    async def publish(self, key, type, body, run=None, headers={}, exchange="replies", mandatory=False):
        """Ends once the broker has confirmed it. `body` is bytes, or what becomes JSON."""
        if run:
            headers = {"worker": self.worker, "dispatch": run.headers["dispatch"]} | headers
        message = aio_pika.Message(
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            type=f"buzzer.{type}.v1",
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=run and run.id,
            correlation_id=run and run.id.split("/")[0],
            user_id=BROKER.user,
            headers={name: value for name, value in headers.items() if value is not None},
        )
        async with asyncio.timeout(DEADLINE):
            to = await self.publishing.get_exchange(f"{PREFIX}.{exchange}", ensure=False)
            await to.publish(message, key, mandatory=mandatory)

    async def hand_over(self, key, type, body, run=None, headers={}, exchange="replies"):
        """The same for what must not be lost, however long it takes."""
        while True:
            try:
                return await self.publish(key, type, body, run, headers, exchange, mandatory=True)
            except Exception as error:
                print(f"the broker has not taken the {type} of {run and run.id} yet: {error!r}", file=sys.stderr)
                await asyncio.sleep(random.uniform(0.2, 3))


async def acknowledge(message):
    with suppress(Exception):  # its channel is gone: then the request comes again, and is known
        await message.ack()
