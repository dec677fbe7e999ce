"""A corpus that a model writes: the real prefix of every prompt, continued. Knows neither torch nor a transport.

The list of prompts is cut into shards of fixed size. A finished shard survives a crash, and no shard depends on
another, so work that was interrupted goes on where it was and ends in the same corpus.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ouroscope.corpora.stored import CorpusDraft, read_corpus
from ouroscope.errors import NotFound, Unavailable
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Capability, Generate, Generated, Served
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Backend, Continuation, LanguageModel, Prompt, Written, facts_of, require
from services.generator.meter import Meter, Task
from services.generator.plan import Plan, parts
from services.generator.workplace import Here, Workplace

Numbered = tuple[int, Sequence[Document]]
"""A shard of prompts with its place among all."""


@dataclass(frozen=True, slots=True)
class _Shard:
    """What is remembered of a finished shard beside its documents."""

    documents: int
    tokens: int
    batch_size: int


class Notes:
    """The small facts of finished shards, kept in the same draft as the documents."""

    def __init__(self, store: ArtifactStore, key: str) -> None:
        self._draft = store.draft(key)

    def write(self, index: int, *numbers: int) -> None:
        """Keep what is to be remembered of a shard."""
        self._draft.write(_note_name(index), json.dumps(numbers).encode())

    def read(self, index: int) -> list[int]:
        """Return what was kept of a shard.

        Raises:
            Unavailable: another worker has finished the same work.
        """
        try:
            return list(json.loads(self._draft.read(_note_name(index))))
        except NotFound as error:
            raise Unavailable("another worker has finished and discarded this draft; repeat the request") from error


def generate(
    store: ArtifactStore,
    backend: Backend,
    request: Generate,
    plan: Plan,
    key: str,
    task: Task,
    *,
    on_tokens: Callable[[int], None] = lambda _: None,
    place: Workplace | None = None,
) -> Generated:
    """Let the model continue every prompt and publish the corpus.

    Args:
        store: Where prompts and model are and the corpus goes.
        backend: What runs the model.
        request: What to write.
        plan: How many documents are worked on together.
        key: Digest of request, plan and environment: names the draft.
        task: The operation that this is.
        on_tokens: Hears how many tokens each step made.
        place: Where the model is asked, if not by `backend` here; it computes as the backend does.

    Raises:
        CapabilityMissing: the backend cannot generate.
        InvalidRequest: a prompt with its continuation does not fit into the model's context, or has no summary where
            the instruction tells it.
    """
    require(backend, Capability.GENERATE)
    _check_summaries(store, request)
    team = (place or Here(store, backend)).open(request.model, key, task.check)
    draft, notes = CorpusDraft(store, key), Notes(store, key)
    total = int(store.manifest(request.prompts).summary.get("documents") or 0)
    meter = Meter(task, "generate", total, on_tokens=on_tokens)
    known: list[int] = []

    def left() -> Iterator[Numbered]:
        for index, prompts in enumerate(parts(read_corpus(store, request.prompts), plan.shard_documents)):
            known.append(index)
            if draft.has(index):
                meter.finish(len(prompts))
            else:
                yield index, prompts

    for documents in team.map(partial(write_shard, request, plan.batch_size, key), left(), meter):
        meter.finish(documents)
    shards = [_Shard(*notes.read(index)) for index in known]
    draft.expect(len(known))
    return _published(draft, shards, team.served)


def write_shard(
    request: Generate,
    batch_size: int,
    key: str,
    store: ArtifactStore,
    model: LanguageModel,
    meter: Meter,
    numbered: Numbered,
) -> int:
    """Write one shard into the draft `key` and return its documents; runs wherever the model is."""
    index, prompts = numbered
    meter.begin(len(prompts), len(prompts) * request.sampling.max_new_tokens)
    written = model.write(_asked(prompts), request.sampling, batch_size, meter.pulse)
    # The note first: a shard that is there always has its note.
    Notes(store, key).write(index, *_summed(written))
    CorpusDraft(store, key).add(index, _documents(prompts, written.continuations, request))
    return len(prompts)


def _check_summaries(store: ArtifactStore, request: Generate) -> None:
    """Look for all of them first, or the work of hours would end at the first document that has none."""
    chat = request.sampling.chat
    if chat and chat.tells_summaries:
        for prompt in read_corpus(store, request.prompts):
            chat.asked(prompt.summary)


def _published(draft: CorpusDraft, shards: Sequence[_Shard], served: Served) -> Generated:
    documents, tokens = sum(shard.documents for shard in shards), sum(shard.tokens for shard in shards)
    batch_size = min(shard.batch_size for shard in shards)
    ref = draft.publish({"tokens": tokens, "batch_size": batch_size, **facts_of(served)})
    return Generated(corpus=ref, documents=documents, tokens=tokens, batch_size=batch_size, served=served)


def _asked(prompts: Sequence[Document]) -> list[Prompt]:
    return [Prompt(prompt.id, prompt.text[: prompt.prefix_length], prompt.summary) for prompt in prompts]


def _summed(written: Written) -> tuple[int, int, int]:
    tokens = sum(each.tokens for each in written.continuations)
    return len(written.continuations), tokens, written.batch_size


def _documents(
    prompts: Sequence[Document], continuations: Sequence[Continuation], request: Generate
) -> Iterator[Document]:
    for prompt, continuation in zip(prompts, continuations, strict=True):
        yield Document(
            id=f"{prompt.id}~{request.generation}",
            text=prompt.text[: prompt.prefix_length] + continuation.text,
            origin=Origin.SYNTHETIC,
            generation=request.generation,
            model_digest=request.model.digest,
            prompt_id=prompt.id,
            prefix_length=prompt.prefix_length,
            group=prompt.group,
            domain=prompt.domain,
            summary=prompt.summary,
        )


def _note_name(index: int) -> str:
    return f"notes-{index:05d}.json"
