#!/usr/bin/env python3
"""text.count: counts the words of a text."""

import json
import sys


def tell(**line):
    print(json.dumps(line), flush=True)


text = json.load(sys.stdin)["text"]
words = text.split()
if not words:
    # Final: another attempt would find no words either. With "retry": true there would be one.
    tell(error={"type": "https://example.com/problems/no-words", "detail": "there are no words in it"})
    sys.exit()

print("counting", len(text), "characters", file=sys.stderr)  # a line of the job's log
longest = ""
for n, word in enumerate(words, 1):
    longest = max(longest, word, key=len)
    if n % 1000 == 0:
        tell(progress={"percent": 100 * n / len(words), "message": f"word {n}"})
tell(result={"words": len(words), "longest": longest})
