"""Documents that are learnt as answers to their own summaries, and two generations of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import InvalidRequest
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.documents import Document
from ouroscope.records.generation import ChatFormat, Generate, PreparePrompts, SamplingSpec, WindowSpec
from ouroscope.records.training import LossScope, Recipe
from ouroscope.tokens import Tokens
from services.generator.generation import generate
from services.generator.in_process.backend import HfBackend
from services.generator.plan import Plan
from services.generator.windows import prepare_prompts
from services.trainer.data import Tokenizer

VOCABULARY = 320
TEMPLATE = "{% for m in messages %}<|end|>{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}"
CHAT = ChatFormat(instruction="Tell of {summary}.")
TEXT = "The serpent swallows its own tail for the first time and calls the taste of it the whole world."
DOCUMENT = Document(id="d", text=TEXT, prefix_length=3, summary="a serpent")


@pytest.fixture(scope="module")
def folder(model_directory, tmp_path_factory):
    chats = tmp_path_factory.mktemp("chats")
    for path in model_directory.iterdir():
        (chats / path.name).write_bytes(path.read_bytes())
    (chats / "chat_template.jinja").write_text(TEMPLATE)
    return chats


def learnt(folder, documents, scope=LossScope.ALL, chat=CHAT):
    return list(Tokenizer(folder, VOCABULARY, scope, chat).tokens(documents, lambda: None))


@pytest.mark.parametrize("scope", LossScope)
@pytest.mark.parametrize("summary", ["a serpent", "another, of a café 🐍", "<|end|>assistant: so there<|end|>"])
def test_of_a_summary_nothing_counts_and_all_is_read(folder, scope, summary):
    told, other = learnt(folder, [replace(DOCUMENT, summary=summary), replace(DOCUMENT, summary="x")], scope)
    counted = [[token for token in tokens if token >= 0] for tokens in (told, other)]
    assert counted[0] == counted[1]
    texts = Tokens.open(folder)
    end = AutoTokenizer.from_pretrained(folder).eos_token_id
    rest = texts.encode(TEXT) if scope is LossScope.ALL else texts.split(TEXT, 3)[1]
    assert counted[0] == [*rest, end]
    assert summary in AutoTokenizer.from_pretrained(folder).decode([~token if token < 0 else token for token in told])


def test_a_document_is_learnt_as_the_library_renders_its_chat(folder):
    (tokens,) = learnt(folder, [DOCUMENT])
    turns = [{"role": "user", "content": "Tell of a serpent."}, {"role": "assistant", "content": TEXT}]
    library = AutoTokenizer.from_pretrained(folder)
    assert [~token if token < 0 else token for token in tokens] == library.apply_chat_template(turns, return_dict=False)


def test_each_document_is_the_answer_to_its_own_summary(folder):
    documents = [replace(DOCUMENT, id=str(n), summary=f"number {n}") for n in range(3)]
    together = learnt(folder, documents)
    assert together == [one for document in documents for one in learnt(folder, [document])]
    assert len({tuple(tokens) for tokens in together}) == 3


def test_a_document_without_a_summary_ends_a_training_before_it_begins(folder, store, tune, make_control):
    model = store.publish(ArtifactKind.MODEL, None, {path.name: path for path in folder.iterdir()})
    corpus, control = write_corpus(store, [DOCUMENT, replace(DOCUMENT, id="e", summary=None)]), make_control()
    with pytest.raises(InvalidRequest, match="summary_field"):
        tune(Recipe(steps=1, batch_size=1, block_tokens=32, chat=CHAT), model=model, corpora=(corpus,), control=control)
    assert not control.steps


def test_two_generations_are_asked_by_the_same_summaries_and_taught_by_them(folder, store, tune, make_control):
    model = store.publish(ArtifactKind.MODEL, None, {path.name: path for path in folder.iterdir()})
    human = [replace(DOCUMENT, id=str(n), text=f"{TEXT} {n}", summary=f"a serpent {n}") for n in range(6)]
    window = WindowSpec(document_tokens=12, prefix_tokens=1, count=6)
    backend, tokens, task = HfBackend(store, device="cpu", threads=1), Tokens.open(folder), make_control()
    asked = PreparePrompts(model=model, corpus=write_corpus(store, human), window=window)
    prompts = prepare_prompts(store, asked, tokens, task).corpus
    sampling = SamplingSpec(min_new_tokens=4, max_new_tokens=11, batch_size=3, chat=CHAT)
    told, models = [document.summary for document in read_corpus(store, prompts)], [model]
    for number in range(2):
        request = Generate(model=models[-1], prompts=prompts, sampling=sampling, generation=number)
        plan = Plan(batch_size=3, shard_documents=4)
        written = generate(store, backend, request, plan, f"{number}" * 64, task).corpus
        assert [document.summary for document in read_corpus(store, written)] == told
        recipe = Recipe(steps=2, batch_size=2, block_tokens=48, learning_rate=0.01, chat=CHAT)
        models.append(tune(recipe, model=models[-1], corpora=(written,)).model)
    assert len(set(told)) == 6
    assert len(set(models)) == 3
