#!/usr/bin/env python3
"""Talks with Buzzer over one WebSocket: sends its arguments, each a command, and prints what comes.

    pip install websockets
    talk.py '{"type": "submit", "kind": "echo", "job": {"input": 1}, "follow": true}'

It ends when every command is answered and every job that it follows is done. When the line breaks, or the API stops, it
connects again and follows each job on from the last event that it has seen. Commands that were not answered are sent again: give
a submission an idempotency_key, so that this is safe.
"""

import asyncio
import json
import os
import sys

import websockets

SERVER = os.environ.get("BUZZER_SERVER", "http://127.0.0.1:8080").replace("http", "ws", 1)
KEY = os.environ.get("BUZZER_KEY")
COME_BACK = 1  # seconds


class Talk:
    def __init__(self, commands):
        # By the names of the requests, which their answers bear, too.
        self.unanswered = {command.setdefault("request", f"command {n}"): command for n, command in enumerate(commands, 1)}
        self.last_seq = {}  # of each job that is followed

    def is_over(self):
        return not self.unanswered and not self.last_seq

    async def go_on(self):
        """Over one connection, as far as it goes."""
        headers = {"authorization": f"Bearer {KEY}"} if KEY else {}
        for job, seq in self.last_seq.items():
            follow = {"type": "follow", "request": f"follow {job}", "job_id": job, "after": seq}
            self.unanswered[follow["request"]] = follow
        # The last event of a job has its input and output.
        async with websockets.connect(f"{SERVER}/v1/socket", additional_headers=headers, max_size=None) as socket:
            for command in self.unanswered.values():
                await socket.send(json.dumps(command))
            async for text in socket:
                print(text, flush=True)
                frame = json.loads(text)
                if frame["type"] == "event":
                    self.note(frame["event"])
                elif frame["type"] == "problem" and "request" not in frame:
                    sys.exit("nobody can read that, or the job is gone")
                else:
                    self.answered(self.unanswered.pop(frame.get("request"), {}), frame)
                if self.is_over():
                    return

    def answered(self, command, frame):
        job, verb = frame.get("job"), command.get("type")
        if verb == "follow" or command.get("follow"):
            if job and not (job["done"] and job["seq"] == command.get("after")):
                self.last_seq[job["id"]] = command.get("after", 0)
            else:
                self.last_seq.pop(command.get("job_id"), None)
        elif verb == "unfollow":
            self.last_seq.pop(command["job_id"], None)

    def note(self, event):
        job = event["job_id"]
        self.last_seq[job] = event["seq"]
        if event["type"] in ("job.succeeded", "job.failed", "job.canceled", "job.expired"):
            del self.last_seq[job]


async def main():
    talk = Talk(json.loads(command) for command in sys.argv[1:])
    while not talk.is_over():
        try:
            await talk.go_on()
        except websockets.InvalidStatus as refused:
            sys.exit(f"not let in: {refused.response.body.decode(errors='replace')}")
        except (OSError, websockets.ConnectionClosed) as broken:
            print(f"no line to {SERVER}: {broken}; coming back", file=sys.stderr)
        if not talk.is_over():
            await asyncio.sleep(COME_BACK)


asyncio.run(main())
