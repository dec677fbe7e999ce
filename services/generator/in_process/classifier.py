"""A text classifier of transformers in this process. Knows tensors and tokens; no store.

Shapes: B = texts in the batch, T = positions, L = labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from ouroscope.errors import InvalidRequest, UntrustedArtifact
from ouroscope.model_files import read_settings
from ouroscope.models import check_model_directory
from ouroscope.probabilities import check_finite
from ouroscope.tokens import read_tokenizer
from services.generator.backend import Pulse
from services.generator.in_process.loaded import load_weights

_POSITIONS = 16_384
"""Of one batch: more do not make a forward pass quicker, only larger."""
_SETTINGS = "tokenizer_config.json"


class HfClassifier:
    """A sequence-classification model in evaluation mode, with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Tokenizer, context_tokens: int) -> None:
        """Take both; the tokenizer is changed by this. `context_tokens`: longest input, control tokens included."""
        self._model = model
        self._context_tokens = context_tokens
        tokenizer.no_padding()
        # A control token that a document spells out stays letters.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        names = model.config.id2label or {}
        self.labels = tuple(str(names.get(i, f"LABEL_{i}")) for i in range(model.config.num_labels))

    @classmethod
    def open(cls, directory: Path, device: str) -> HfClassifier:
        """Load the classifier of a directory in float32, having found that nothing in it can run code.

        Whatever type models write in: who weighs documents by a power of a probability needs its last digits.

        Raises:
            UntrustedArtifact: something can, or it names tokens that its weights do not have.
            InvalidRequest: transformers has no classifier of that architecture, or it does not tell probabilities.
            CorruptArtifact: weights are missing.
        """
        check_model_directory(directory)
        model = load_weights(directory, torch.float32, device, AutoModelForSequenceClassification, "text classifier")
        if model.config.problem_type == "regression" or model.config.num_labels < 1:
            raise InvalidRequest("the model tells values and not probabilities of labels; name a text classifier")
        tokenizer = read_tokenizer(directory)
        _check_tokens(tokenizer, model.config.pad_token_id, model.get_input_embeddings().num_embeddings)
        return cls(model, tokenizer, _context_of(model, directory))

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Return each text as its tokens; see `classifying.Classifier.encode`."""
        around = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._tokenizer.enable_truncation(max(around + 1, min(max_tokens, self._context_tokens)))
        return [list(found.ids) for found in self._tokenizer.encode_batch_fast(list(texts))]

    def judge(self, texts: Sequence[Sequence[int]], label: int, batch_size: int, pulse: Pulse) -> list[float]:
        """Return how probable the label is for each text; see `classifying.Classifier.judge`."""
        found: dict[int, float] = {}
        for batch in self._batches(texts, batch_size):
            found.update(zip(batch, self._probabilities([texts[i] for i in batch], label), strict=True))
            pulse(sum(len(texts[i]) for i in batch))
        return [found[i] for i in range(len(texts))]

    def _batches(self, texts: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
        """Yield places of texts of similar length, the longest first; one at a time where nothing marks padding."""
        order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
        while order:
            fitting = max(1, _POSITIONS // len(texts[order[0]])) if self._padding is not None else 1
            batch, order = order[: min(size, fitting)], order[min(size, fitting) :]
            yield batch

    @torch.inference_mode()
    def _probabilities(self, texts: Sequence[Sequence[int]], label: int) -> list[float]:
        width, device = max(map(len, texts)), self._model.device
        inputs_BT = torch.tensor([[*ids, *[self._padding or 0] * (width - len(ids))] for ids in texts], device=device)
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in texts], device=device)
        logits_BL: Tensor = self._model(input_ids=inputs_BT, attention_mask=mask_BT).logits.cpu().double()
        check_finite(logits_BL)
        alone = len(self.labels) == 1 or self._model.config.problem_type == "multi_label_classification"
        shares_BL = torch.sigmoid(logits_BL) if alone else torch.softmax(logits_BL, -1)
        return [float(share) for share in shares_BL[:, label]]

    @property
    def _padding(self) -> int | None:
        found = self._model.config.pad_token_id
        return int(found) if found is not None else None


def _check_tokens(tokenizer: Tokenizer, padding: int | None, known: int) -> None:
    """Refuse tokens that the weights do not have: on an accelerator one of them would break the whole process."""
    if max(tokenizer.get_vocab().values(), default=-1) >= known:
        raise UntrustedArtifact("the model is refused: its tokenizer knows more tokens than its weights")
    if padding is not None and not 0 <= padding < known:
        raise UntrustedArtifact("the model is refused: config.json names a padding token that its weights do not have")


def _context_of(model: Any, directory: Path) -> int:
    """Return the longest input: what the tokenizer says, else what the model has positions for."""
    path = directory / _SETTINGS
    told = read_settings(path).get("model_max_length") if path.is_file() else None
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    # RoBERTa and its kin count positions from behind the padding token.
    embeddings = getattr(model.base_model, "embeddings", None)
    lost = getattr(embeddings, "padding_idx", None)
    room = int(positions) - (int(lost) + 1 if isinstance(lost, int) else 0)
    return min(room, told) if isinstance(told, int) and told > 0 else room
