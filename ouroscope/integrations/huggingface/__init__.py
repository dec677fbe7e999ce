"""For those who train with the Trainer of transformers: `CollapseCallback`. Needs torch and transformers."""

from __future__ import annotations

from ouroscope.integrations.huggingface.callback import CollapseCallback, CollapseDetected

__all__ = ["CollapseCallback", "CollapseDetected"]
