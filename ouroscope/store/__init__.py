"""Where artifacts lie: addressed by content, checked when read, never half-published."""

from ouroscope.store.artifacts import ArtifactStore, Named
from ouroscope.store.drafts import Draft
from ouroscope.store.manifest import FileEntry, Manifest, files_digest

__all__ = ["ArtifactStore", "Draft", "FileEntry", "Manifest", "Named", "files_digest"]
