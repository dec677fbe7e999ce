"""A treebank of a few sentences, and pipelines that are initialised on it: they parse, badly and fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import spacy
from spacy.training import Example
from spacy.training.converters import conllu_to_docs

COMPONENTS = ("tok2vec", "morphologizer", "trainable_lemmatizer", "parser")

ENGLISH = """\
# sent_id = 1
1\tThe\tthe\tDET\tDT\tDefinite=Def\t2\tdet\t_\t_
2\tcat\tcat\tNOUN\tNN\tNumber=Sing\t3\tnsubj\t_\t_
3\tsleeps\tsleep\tVERB\tVBZ\tTense=Pres\t0\troot\t_\tSpaceAfter=No
4\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

# sent_id = 2
1\tA\ta\tDET\tDT\tDefinite=Ind\t3\tdet\t_\t_
2\told\told\tADJ\tJJ\t_\t3\tamod\t_\t_
3\tdog\tdog\tNOUN\tNN\tNumber=Sing\t4\tnsubj\t_\t_
4\tbarked\tbark\tVERB\tVBD\tTense=Past\t0\troot\t_\t_
5\tloudly\tloudly\tADV\tRB\t_\t4\tadvmod\t_\tSpaceAfter=No
6\t!\t!\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""
GERMAN = """\
# sent_id = 1
1\tDie\tder\tDET\tART\tDefinite=Def\t2\tdet\t_\t_
2\tKatze\tKatze\tNOUN\tNN\tNumber=Sing\t3\tnsubj\t_\t_
3\tschläft\tschlafen\tVERB\tVVFIN\tTense=Pres\t0\troot\t_\tSpaceAfter=No
4\t.\t.\tPUNCT\t$.\t_\t3\tpunct\t_\t_

"""


def write_treebank(folder: Path, conllu: str = ENGLISH) -> Path:
    """Write the same sentences as all three parts, four times each."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "dev", "test"):
        (folder / f"{part}.conllu").write_text(4 * conllu, encoding="utf-8")
    return folder


def initialised(
    folder: Path, lang: str = "en", conllu: str = ENGLISH, components: tuple[str, ...] = COMPONENTS
) -> Path:
    """Write a pipeline whose components know the labels of `conllu`."""
    nlp: Any = spacy.blank(lang)
    nlp.meta["name"] = "tiny"
    for name in components:
        nlp.add_pipe(name, config={"min_tree_freq": 1} if name == "trainable_lemmatizer" else {})
    docs = list(conllu_to_docs(4 * conllu, 2, no_print=True))
    nlp.initialize(lambda: [Example(nlp.make_doc(doc.text), doc) for doc in docs])
    nlp.to_disk(folder)
    return folder
