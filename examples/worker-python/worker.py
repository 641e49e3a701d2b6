#!/usr/bin/env python3
"""A worker that runs the kind text.count. How it does what Buzzer asks of a worker is in runs.py and wire.py."""

import asyncio

from runs import Failed, Runs

KIND = {
    "name": "text.count",
    "title": "Count a text",
    "description": "Counts the lines, words and characters of a text.",
    "input_schema": {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "seconds_per_line": {"type": "number", "minimum": 0, "maximum": 60, "description": "To take longer."},
            "fail_times": {"type": "integer", "minimum": 0, "description": "So many attempts fail first."},
        },
        "required": ["text"],
        "additionalProperties": False,
    },
    "output_schema": {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in ("lines", "words", "characters")},
        "required": ["lines", "words", "characters"],
    },
    "example": {"text": "soup of the day\n"},
    "retry": {"max_attempts": 5, "backoff": "1s", "max_backoff": "5m"},
    "timeout": "5m",
    "slots": 16,
    "delivery": "at_least_once",
}


async def count(run, input):
    """The handler. What blocks goes into `asyncio.to_thread`: else the beats stop, and the job goes to another."""
    if run.headers["attempt"] <= input.get("fail_times", 0):
        raise Failed("counter-busy", f"Attempt {run.headers['attempt']} was to fail.", retry_after=0.2)
    words, lines = 0, input["text"].splitlines()
    for at, line in enumerate(lines, 1):
        await asyncio.sleep(input.get("seconds_per_line", 0))
        words += len(line.split())
        run.progress(100 * at / len(lines), f"line {at} of {len(lines)}")
    return {"lines": len(lines), "words": words, "characters": len(input["text"])}


asyncio.run(Runs(KIND, count).live())
