"""Clients of the four services: records in, records out, errors of `ouroscope.errors`.

>>> from ouroscope.client import AnalyzerClient, open_channel
"""

from __future__ import annotations

from ouroscope.client.analyzer import AnalyzerClient
from ouroscope.client.coordinator import CoordinatorClient
from ouroscope.client.generator import GeneratorClient
from ouroscope.client.long_work import OnProgress, Patience
from ouroscope.client.monitors import MonitorClient, SyncMonitors
from ouroscope.client.sync import SyncAnalyzer
from ouroscope.client.trainer import TrainerClient
from ouroscope.rpc.channel import open_channel
from ouroscope.security.connection import Connection

__all__ = [
    "AnalyzerClient",
    "Connection",
    "CoordinatorClient",
    "GeneratorClient",
    "MonitorClient",
    "OnProgress",
    "Patience",
    "SyncAnalyzer",
    "SyncMonitors",
    "TrainerClient",
    "open_channel",
]
