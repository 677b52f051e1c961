"""What tells one loaded sentence-transformers model from another, in versions 5 and 6 alike."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.documents import EmbeddingKind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["digest_model", "module_names", "read_kind", "read_tokenizer"]

_SAMPLE_COMPONENTS = 1 << 28
"""Of a larger tensor every n-th component is read, so that it stays quick."""
_IMAGE_SETTINGS = ("image_mean", "image_std", "rescale_factor", "resample", "size", "crop_size")
_IMAGE_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")


def module_names(model: Any) -> list[str]:
    """Return what the model does one after the other."""
    return [type(module).__name__ for module in model.children()]


def read_kind(model: Any) -> EmbeddingKind:
    """Return what the model reads."""
    if hasattr(model, "modalities"):
        texts, images = "text" in model.modalities, "image" in model.modalities
    else:  # before sentence-transformers 5.4
        texts, images = True, module_names(model)[:1] == ["CLIPModel"]
    if not images:
        return EmbeddingKind.TEXT
    return EmbeddingKind.MULTIMODAL if texts else EmbeddingKind.IMAGE


def read_tokenizer(model: Any) -> Any:
    """Return what splits texts, None of a model that reads images alone."""
    tokenizer = model.tokenizer  # before sentence-transformers 5.4, CLIP's has it within
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    return tokenizer if hasattr(tokenizer, "get_vocab") else None


def digest_model(model: Any, options: Mapping[str, object]) -> str:
    """Digest the weights, the vocabulary, the pooling, the prompts and these options.

    Only what every version says alike goes in: an upgrade must not lock anyone out of a
    collection.
    """
    parts = {
        "modules": module_names(model),
        "pooling": _pooling(model),
        "prompts": {name: prompt for name, prompt in model.prompts.items() if prompt},
        "default_prompt": model.default_prompt_name,
        "max_tokens": str(model.max_seq_length),
        "weights": _digest_weights(model),
        "vocabulary": _digest_vocabulary(read_tokenizer(model)),
        **options,
    }
    if read_kind(model) is not EmbeddingKind.TEXT:
        parts["images"] = _image_settings(model)
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _pooling(model: Any) -> list[str]:
    modes: list[str] = []
    for module in model.children():
        if type(module).__name__ == "Pooling":
            config = module.get_config_dict()
            modes += (
                [str(config["pooling_mode"])]
                if "pooling_mode" in config  # sentence-transformers 6; 5 has one flag per mode
                else [
                    re.sub("_tokens?$", "", name.removeprefix("pooling_mode_"))
                    for name, value in config.items()
                    if name.startswith("pooling_mode_") and value
                ]
            )
    return sorted(modes)


def _digest_weights(model: Any) -> list[str]:
    """Digest each tensor's values; names are left out, as they vary between versions."""
    digests = [_digest_tensor(parameter) for parameter in model.parameters()]
    for module in model.children():
        path = getattr(getattr(module, "auto_model", None), "path", None)  # an ONNX file
        if isinstance(path, Path):
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return sorted(digests)


def _digest_tensor(parameter: Any) -> str:
    values = parameter.detach().flatten()
    step = -(-values.numel() // _SAMPLE_COMPONENTS)
    sample = values[:: max(step, 1)].float().cpu().numpy()
    head = f"{tuple(parameter.shape)} {parameter.dtype} ".encode()
    return hashlib.sha256(head + sample.tobytes()).hexdigest()


def _digest_vocabulary(tokenizer: Any) -> str:
    vocabulary = [] if tokenizer is None else sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()


def _image_settings(model: Any) -> dict[str, object]:
    """Return how an image is prepared: of each step that is done, its settings."""
    first = next(model.children())
    processor = getattr(first, "processor", None)
    processor = getattr(processor, "image_processor", processor)
    steps = {name: bool(getattr(processor, name, False)) for name in _IMAGE_STEPS}
    settings = {name: _plain(getattr(processor, name, None)) for name in _IMAGE_SETTINGS}
    return {**steps, **settings}


def _plain(value: Any) -> object:
    """Write a setting as each version of transformers would."""
    if isinstance(value, int | float):
        return round(float(value), 6)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "keys"):
        value = dict(value)
    elif hasattr(value, "__dict__"):
        value = vars(value)
    if not isinstance(value, dict):
        return None
    return {key: _plain(item) for key, item in sorted(value.items()) if item is not None}
