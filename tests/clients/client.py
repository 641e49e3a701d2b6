"""What somebody writes who has `/openapi.json` and nothing else: `buzzer` is made from it by openapi-python-client."""

import json
import sys

from buzzer import Client
from buzzer.api.jobs import cancel_job, get_job, get_result, submit_demo_progress
from buzzer.models import SubmitDemoProgressBody

client = Client(base_url=sys.argv[1], timeout=60)

# The input has the type of the kind: steps, and seconds.
body = SubmitDemoProgressBody.from_dict({"input": {"steps": 2, "seconds": 0.1}})
submitted = submit_demo_progress.sync(client=client, body=body)
done = get_job.sync(submitted.id, client=client, wait=30)
result = get_result.sync(submitted.id, client=client)
refused = cancel_job.sync(submitted.id, client=client)
print(json.dumps({"state": done.state.value, "result": result, "refused": refused.type_}))
