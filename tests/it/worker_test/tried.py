"""A program for `exec`: takes its time for each line, tells how far it is, and fails as often as it is told to."""

import json
import os
import sys
import time


def say(line):
    print(json.dumps(line), flush=True)


given = json.load(sys.stdin)
if int(os.environ["BUZZER_ATTEMPT"]) <= given.get("fail_times", 0):
    say({"error": {"detail": "as it was told to", "retry": True}})
    sys.exit()
lines = given["text"].split("\n")
for at in range(len(lines)):
    until = time.monotonic() + given.get("seconds_per_line", 0)
    while time.monotonic() < until:
        time.sleep(0.5)
        say({"progress": {"percent": 100 * at / len(lines), "message": f"line {at + 1}"}})
say({"result": {"lines": len(lines)}})
