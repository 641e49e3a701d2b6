"""Hands a job in, waits for its end, and prints its output, with a client made from /openapi.json."""
import os

from buzzer_client import AuthenticatedClient, Client
from buzzer_client.api.jobs import get_job, submit_demo_sleep
from buzzer_client.models import DemoSleepInput, Problem, SubmitDemoSleepBody

server, key = os.environ.get("BUZZER_SERVER", "http://127.0.0.1:8080"), os.environ.get("BUZZER_KEY")
client = AuthenticatedClient(base_url=server, token=key) if key else Client(base_url=server)


def read(answer):
    if answer is None or isinstance(answer, Problem):
        raise SystemExit(f"refused: {answer}")
    return answer


order = SubmitDemoSleepBody(input_=DemoSleepInput(seconds=0.5))
job = read(submit_demo_sleep.sync(client=client, body=order))
while not job.done:
    job = read(get_job.sync(client=client, job=job.id, wait=30))
print(job.state, job.output)
