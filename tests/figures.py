"""Drawn figures, and a small CLIP that learns them: a real model of texts and images, made here.

No package brings the weights of a model that reads texts and images both. This one is trained
from nothing in a few seconds, by the loss that CLIP is trained by, on figures that Pillow draws; it
knows a few words and shapes, and knows them for figures it has not seen.
"""

from __future__ import annotations

import functools
import io
import json
import math
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

SIZE = 32
COLOURS = {
    "red": (220, 30, 30),
    "purple": (130, 40, 160),
    "blue": (30, 60, 220),
    "black": (15, 15, 15),
}
SHAPES = ("disc", "frame", "cross")
CAPTIONS = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
_STEPS = 240
_WARM_UP_STEPS = 30


def draw(caption: str, seed: int, size: int = SIZE) -> Image:
    """Draw what the caption says, somewhere, on a pale ground; another seed, another drawing."""
    from PIL import Image, ImageDraw

    _, colour, shape = caption.split()
    chance = random.Random(f"{caption} {seed}")
    ground = tuple(chance.randint(190, 255) for _ in range(3))
    size *= 2  # and reduced in the end, for smooth edges
    image = Image.new("RGB", (size, size), ground)
    reach = chance.uniform(0.28, 0.42) * size
    x, y = (chance.uniform(reach, size - 1 - reach) for _ in range(2))
    ink = tuple(max(0, value + chance.randint(-12, 12)) for value in COLOURS[colour])
    box, width = (x - reach, y - reach, x + reach, y + reach), max(2, round(reach * 0.4))
    pen = ImageDraw.Draw(image)
    if shape == "disc":
        pen.ellipse(box, fill=ink)
    elif shape == "frame":
        pen.rectangle(box, outline=ink, width=width)
    else:
        pen.line((x - reach, y, x + reach, y), fill=ink, width=width)
        pen.line((x, y - reach, x, y + reach), fill=ink, width=width)
    return image.reduce(2)


def save_clip(folder: Path) -> Path:
    """Train the small CLIP and save it as models such as clip-ViT-B-32 are saved."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    inner = folder / "0_CLIPModel"
    inner.mkdir(parents=True)
    _save_tokenizer(inner)
    _trained().save_pretrained(inner)
    (inner / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "processor_class": "CLIPProcessor",
                "do_resize": True,
                "size": {"shortest_edge": SIZE},
                "resample": 3,
                "do_center_crop": True,
                "crop_size": {"height": SIZE, "width": SIZE},
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "do_convert_rgb": True,
            }
        )
    )
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel"}
    module["type"] = "sentence_transformers.models.CLIPModel"
    (folder / "modules.json").write_text(json.dumps([module]))
    return folder


@functools.cache
def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return the tokens and the merges of a byte-pair encoding that knows the words above."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,:;/!?-_'\""
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in ["a", *COLOURS, *SHAPES]:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append(f"{pieces[0]} {pieces[1]}")
            pieces[:2] = [pieces[0] + pieces[1]]
            tokens.append(pieces[0])
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return {token: place for place, token in enumerate(tokens)}, list(dict.fromkeys(merges))


def _save_tokenizer(folder: Path) -> None:
    from transformers import CLIPTokenizer

    vocabulary, merges = _vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.model_max_length = 16
    for caption in CAPTIONS:  # one token a word, as it was trained
        expected = [vocabulary[f"{word}</w>"] for word in caption.split()]
        assert tokenizer(caption)["input_ids"][1:-1] == expected
    tokenizer.save_pretrained(folder)


def _pixels(images: list[Image]):
    import torch

    stacked = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2) / 127.5 - 1


def _pace(step: int) -> float:
    return min(1, (step + 1) / _WARM_UP_STEPS) * (1 + math.cos(math.pi * step / _STEPS)) / 2


@functools.cache
def _trained():
    """Train for a few seconds: each step sees a drawing of each caption."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    vocabulary, _ = _vocabulary()
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 16, "num_hidden_layers": 1}
    ends = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    vision = {"image_size": SIZE, "patch_size": 8, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            text_config={**tower, **text, **ends, "projection_dim": 32},
            vision_config={**tower, **vision, "projection_dim": 32},
            projection_dim=32,
        )
    )
    words = [[start, *(vocabulary[f"{word}</w>"] for word in c.split()), end] for c in CAPTIONS]
    ids = torch.tensor(words)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pace = torch.optim.lr_scheduler.LambdaLR(optimiser, _pace)
    batches = [_pixels([draw(caption, seed) for caption in CAPTIONS]) for seed in range(160)]
    model.train()
    for step in range(_STEPS):
        pixels = batches[step % len(batches)]
        optimiser.zero_grad()
        model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixels,
            return_loss=True,
        ).loss.backward()
        optimiser.step()
        pace.step()
    return model.eval()


def draw_scene(seed: int, size: int = 160) -> Image:
    """Draw several shapes of any colour, unlike those of another seed."""
    from PIL import Image, ImageDraw

    chance = random.Random(seed)

    def colour() -> tuple[int, ...]:
        return tuple(chance.randint(0, 255) for _ in range(3))

    image = Image.new("RGB", (size, size), colour())
    pen = ImageDraw.Draw(image)
    for _ in range(chance.randint(3, 6)):
        x, y = chance.uniform(0, 0.8 * size), chance.uniform(0, 0.8 * size)
        box = (x, y, x + chance.uniform(0.1, 0.4) * size, y + chance.uniform(0.1, 0.4) * size)
        shape = chance.choice([pen.ellipse, pen.rectangle, pen.line])
        shape(box, fill=colour(), width=chance.randint(2, 12))
    return image


def altered(image: Image, seed: int) -> bytes:
    """Turn, crop, brighten or darken an image a little, and squeeze it into a small JPEG file."""
    from PIL import ImageEnhance

    chance = random.Random(seed)
    turned = image.rotate(chance.uniform(-5, 5))
    edge = [round(chance.uniform(0.03, 0.08) * side) for side in (*image.size, *image.size)]
    cropped = turned.crop((edge[0], edge[1], image.width - edge[2], image.height - edge[3]))
    lit = ImageEnhance.Brightness(cropped).enhance(chance.uniform(0.8, 1.2))
    file = io.BytesIO()
    lit.save(file, "JPEG", quality=40)
    return file.getvalue()


def colour_histograms(images: list[Image]) -> NDArray[np.float32]:
    """Count each image's colours, of 4 shades of red, green and blue each; shape (n, 64)."""
    rows = []
    for image in images:
        shades = np.asarray(image, dtype=np.int64) // 64
        bins = shades @ np.array([16, 4, 1])
        rows.append(np.bincount(bins.ravel(), minlength=64) / bins.size)
    return np.array(rows, dtype=np.float32)
