"""A causal language model that a stand-in serves, run by transformers itself in float64: not by the code under test."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer


class Language:
    """Text, tokens and true log-probabilities of one model directory. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
        self._lock = threading.Lock()
        self.context: int = self._model.config.max_position_embeddings

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def name(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))

    @torch.inference_mode()
    def log_probabilities(self, ids: list[int]) -> Tensor:
        """Return, as [T, V], the log-probabilities of what follows each token."""
        with self._lock:
            logits_TV = self._model(input_ids=torch.tensor([ids])).logits[0]
        return torch.log_softmax(logits_TV, -1)

    def draw(self, ids: list[int], settings: dict[str, Any]) -> list[int]:
        """Return new tokens, the end marker included, by the library's own `generate`."""
        temperature = settings.get("temperature", 1.0)
        how = {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature}
        if temperature:
            how |= {"top_p": settings.get("top_p", 1.0), "top_k": max(0, settings.get("top_k") or 0)}
        inputs = torch.tensor([ids])
        with self._lock, torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.get("seed") or 0)
            found = self._model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=settings["max_tokens"],
                min_new_tokens=settings.get("min_tokens") or None,
                pad_token_id=self.tokenizer.eos_token_id,
                **how,
            )
        return list(found[0, len(ids) :].tolist())
