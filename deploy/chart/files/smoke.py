"""Let an analyzer measure forty small texts: `python smoke.py HOST:PORT`. What `helm test` runs; nothing is kept."""

import sys

from ouroscope.client import SyncAnalyzer
from ouroscope.records.documents import Document

texts = [f"In the year {year} the river rose by {year % 7} feet, and the people moved." for year in range(1900, 1940)]
documents = [Document(id=str(number), text=text) for number, text in enumerate(texts)]
with SyncAnalyzer(sys.argv[1]) as analyzer:
    report = analyzer.analyze(documents, metrics=["types"])
sys.stdout.write(f"{report.documents} documents, {report.tokens} words\n")
sys.exit(report.documents != len(documents))
