"""An encoder that runs in this process with torch and transformers: mean of the last hidden states, on the processor.

The only code of the analyzer that imports torch. Any model of the library that gives a hidden state for each token
will do; one made for sentences is best. The folder was checked before it comes here. Shapes: B = texts of a batch,
T = tokens, d = dimensions.
"""

from __future__ import annotations

import importlib.metadata
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from ouroscope.errors import CorruptArtifact, InvalidRequest, UntrustedArtifact
from ouroscope.models import BUILDING, SAFELY, CheckedModel
from services.analyzer.embedding.embedded import batches

LONGEST = 2_048
"""Tokens of a document that are read, of models that could read more."""
WIDEST = 2_048
"""Most dimensions: what is computed of vectors takes memory for their square and time for their cube."""

_BATCH_TOKENS = 8_192
_CHARACTERS_OF_TOKEN = 64
# A text is cut there before it is cut into tokens, which takes time for all of it.
_LIBRARIES = ("torch", "transformers", "tokenizers")


class HfEncoder:
    """A model of transformers in 32-bit numbers. Any thread may call it; one works at a time."""

    def __init__(self, folder: Path, checked: CheckedModel, identity: str) -> None:
        """Load the model.

        Raises:
            InvalidRequest: transformers knows no such model, or it is no encoder.
            CorruptArtifact: weights are missing.
            UntrustedArtifact: its tokenizer cannot be read.
        """
        self.identity = identity
        self.libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
        self._turn = threading.Lock()
        transformers_logging.disable_progress_bar()
        self._model = _loaded(folder)
        self._longest = _longest(folder, checked, self._model)
        self._tokenizer = _tokenizer(folder, self._longest)

    def embed(self, texts: Sequence[str], on_done: Callable[[int], None]) -> npt.NDArray[np.float32]:
        """Return a row for each text: the mean over its tokens, not yet of length 1.

        Texts are cut to what the model reads. Which texts share a batch follows from `texts` alone.
        """
        found: dict[int, npt.NDArray[np.float32]] = {}
        limit = self._longest * _CHARACTERS_OF_TOKEN
        tokens = [self._tokenizer.encode(text[:limit]).ids or [0] for text in texts]
        for batch in batches([len(ids) for ids in tokens], _BATCH_TOKENS):
            with self._turn:
                rows_Bd = self._mean_states([tokens[place] for place in batch])
            found.update(zip(batch, rows_Bd, strict=True))
            on_done(len(found))
        return np.stack([found[place] for place in range(len(texts))])

    @torch.inference_mode()
    def _mean_states(self, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        longest = max(map(len, tokens))
        padded_BT = torch.tensor([[*ids, *[ids[-1]] * (longest - len(ids))] for ids in tokens])
        mask_BT = torch.arange(longest) < torch.tensor([len(ids) for ids in tokens])[:, None]
        states_BTd = self._model(input_ids=padded_BT, attention_mask=mask_BT.long()).last_hidden_state
        kept_BTd = states_BTd.masked_fill(~mask_BT[:, :, None], 0.0)
        means_Bd: npt.NDArray[np.float32] = (kept_BTd.sum(dim=1) / mask_BT.sum(dim=1, keepdim=True)).numpy()
        return means_Bd


def _loaded(folder: Path) -> Any:
    with BUILDING:
        try:
            model, found = AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                **SAFELY,
                output_loading_info=True,
            )
        except (ValueError, KeyError, ImportError) as error:
            raise InvalidRequest(
                "the encoder cannot be opened: transformers knows no model of that configuration"
            ) from error
    _check(model, found)
    return model.eval().requires_grad_(False)


def _check(model: Any, found: Mapping[str, Any]) -> None:
    # What a pooling layer makes is not looked at, and many encoders are stored without one.
    lost = [*found["missing_keys"], *(str(each) for each in found.get("mismatched_keys", ()))]
    missing = sorted(name for name in lost if not name.startswith("pooler."))
    if missing:
        raise CorruptArtifact(f"the encoder lacks weights ({missing[0]} and {len(missing) - 1} more)")
    width = getattr(model.config, "hidden_size", None)
    if getattr(model.config, "is_encoder_decoder", False) or not isinstance(width, int):
        raise InvalidRequest("the encoder must be a model of text that gives one hidden state for each token")
    if width > WIDEST:
        raise InvalidRequest(f"the encoder has {width:,} dimensions and at most {WIDEST:,} are computed with")


def _tokenizer(folder: Path, longest: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise UntrustedArtifact("the encoder is refused: tokenizer.json cannot be read as a fast tokenizer") from error
    # Some files ask for padding to a fixed length, which changes no vector and costs much.
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    # A control token spelt out in a document stays letters.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _longest(folder: Path, checked: CheckedModel, model: Any) -> int:
    """Return how many tokens are read: what configuration and tokenizer allow."""
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_bytes()).get("model_max_length") if path.is_file() else None
    allowed = told if isinstance(told, int) and told > 0 else LONGEST
    return min(LONGEST, allowed, (checked.context_tokens or LONGEST) - _unused_positions(model))


def _unused_positions(model: Any) -> int:
    """Return how many of a model's positions stand for no token: some begin to count behind the padding token."""
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    starts = (getattr(table, "padding_idx", None) for table in tables)
    return max((start + 1 for start in starts if start is not None), default=0)
