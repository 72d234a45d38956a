"""Models on the Hugging Face Hub; needs ``huggingface_hub``, the extra ``hub``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

try:
    from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
except ModuleNotFoundError as error:
    raise ImportError("the Hub needs huggingface_hub: pip install 'autoderain-jax[hub]'") from error

from autoderain_jax.derainer import Derainer
from autoderain_jax.model import Model, folder_of

FILES = ("model.json", "weights.safetensors")
"""Of a repository, what is downloaded: neither is code."""


CARD = """---
library_name: autoderain-jax
pipeline_tag: image-to-image
tags: [deraining, image-restoration, jax]
---

# A network that removes rain from photographs

{parameters:,} weights, found and trained by AutoDerain-JAX; what on, by `training` in `model.json`.

    from autoderain_jax.hub import HubDerainer

    restored = HubDerainer.from_pretrained("THIS REPOSITORY")(image)
"""


class HubDerainer(ModelHubMixin, Derainer):
    """A ``Derainer`` that ``from_pretrained`` also loads from the Hub, and ``push_to_hub`` uploads.

    Example:
      HubDerainer.from_pretrained("runs/retrain/model").push_to_hub("me/derainer")
      derainer = HubDerainer.from_pretrained("me/derainer")
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> HubDerainer:
        """Keeps the mixin from making a configuration of arguments: ``model.json`` is that."""
        del args, kwargs
        return object.__new__(cls)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card of a repository that has none yet."""
        del args, kwargs
        return ModelCard(CARD.format(parameters=self.model.parameters))

    def _save_pretrained(self, save_directory: Path) -> None:
        self.model.save(save_directory)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **options: Any,
    ) -> HubDerainer:
        """Loads a model as ``Derainer.from_pretrained`` does, or from a repository on the Hub.

        Args:
          path: as there, or ``user/name`` of the repository.
          revision, token, cache_dir, force_download, local_files_only: of the download, as for ``snapshot_download``.
          **options: as for ``Derainer``.

        Raises:
          InputError: the folder is incomplete or of another version.
        """
        if path is not None and not folder_of(path).is_dir():
            path = snapshot_download(
                str(path),
                allow_patterns=list(FILES),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
            )
        return cls(Model.load(path), **options)
