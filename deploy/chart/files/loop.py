"""Let two models learn for one generation, one from its own text: `python loop.py HOST:PORT NAME`.

What `helm test` runs, with the embedded model on the embedded text. The run stays, under the name with the time behind:
a release that was removed and installed again on the same volumes begins to count its revisions anew.
"""

import asyncio
import sys
import time

from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.errors import OuroscopeError
from ouroscope.records.runs import ArmSpec, EvaluationSpec, Run, RunSpec, RunState
from ouroscope.records.training import Recipe

SPEC = RunSpec(
    name="helm-test",
    arms=(ArmSpec(name="human", protocol="human"), ArmSpec(name="replace", protocol="replace")),
    generations=1,
    documents=20,
    document_tokens=24,
    recipe=Recipe(steps=2, batch_size=2, block_tokens=64),
    evaluation=EvaluationSpec(prompts=20, heldout_documents=20, prompt_length=8, max_tokens=48, last_n=8, samples=2),
)


async def carried_out(address: str, run_id: str) -> Run:
    """Start the run and return it when it has ended."""
    async with open_channel(address) as channel:
        client = CoordinatorClient(channel)
        name = (await client.create_run(SPEC, f"{run_id}-{time.time():.0f}")).name
        stage = None
        async for event in client.watch_run(name):
            if (event.arm, event.generation, event.stage) != stage:
                stage = (event.arm, event.generation, event.stage)
                sys.stdout.write(
                    f"{event.arm or 'setup'} {event.generation or 0}: {event.stage or event.state.value}\n"
                )
                sys.stdout.flush()
        return await client.get_run(name)


try:
    run = asyncio.run(carried_out(*sys.argv[1:]))
except OuroscopeError as error:
    sys.exit(error.message)
sys.stdout.write(f"{run.state.value}: {run.generations_done} of {run.generations_total} generations\n")
sys.exit(run.error if run.state is not RunState.SUCCEEDED else 0)
