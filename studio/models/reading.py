"""Reading strange files carefully: sizes first, then bytes. Knows what wrong files look like; knows no model format.

Everything here answers with a `Broken` for what a file can do wrong; nothing is mapped into memory, because a file
that is cut short while it is mapped kills the process.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from studio.core.cards import Broken

JSON_LIMIT = 4 * 1024 * 1024  # bytes; settings files of models are a few KB, indexes of shards up to 1 MB

COPY_AGAIN = "Copy or download it again."
CONVERT = (
    "Ask the author for a .safetensors or .gguf file, or convert it in an environment you can throw away: load it with "
    "its own library and save it with save_pretrained(…, safe_serialization=True)."
)

# Keys by which settings files of models make libraries run code that lies beside them or on a hub.
_CODE_KEYS = ("auto_map", "trust_remote_code", "_attn_implementation_internal", "custom_pipeline", "custom_pipelines")

_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
_SNIFFED = 1024


def gone(error: OSError) -> Broken:
    """What a failed stat, open or read means to a person."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Broken("there is no such file or folder", "Check the path; was it moved or deleted?", "model_missing")
    if isinstance(error, PermissionError):
        return Broken("it may not be read by this user", "Change its permissions or copy it.")
    return Broken(f"it cannot be read ({error.strerror or error})", "Check the disk it is on.")


def regular_size(path: Path) -> int | Broken:
    """The size of a regular file, bytes. Pipes and devices are refused: opening one may wait for ever."""
    try:
        status = os.stat(path)
    except OSError as error:
        return gone(error)
    except ValueError:  # a NUL in the path
        return Broken("that is not a path a file can have", code="model_missing")
    if not stat.S_ISREG(status.st_mode):
        return Broken("it is not a regular file", "Give the file of a model.")
    return status.st_size


def impostor(head: bytes) -> Broken | None:
    """Say what a file is whose first bytes are not those of a model; None when nothing is recognised.

    Args:
        head: the first bytes, at most a kilobyte is looked at.
    """
    head = head[:_SNIFFED]
    # A safetensors header of 640 bytes begins like a pickle; its ninth byte tells them apart.
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        return None
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return Broken("it is a git-lfs pointer, not the model itself", "Run “git lfs pull” where it came from.")
    if text.startswith(_HTML) or (text.startswith(b"<?xml") and b"html" in text):
        return Broken("it is a web page, not a model", "The download was answered with a page; download it again.")
    if text.startswith((b"<?xml", b"<error", b'{"error', b'{"message', b'{"detail')):
        return Broken("it is an error message of a server, not a model", "Download it again.")
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 2:
        return refused_pickle()
    if head.startswith(b"PK\x03\x04"):
        # torch.save has written zip archives with a pickle inside since 2020
        return refused_pickle() if b"data.pkl" in head else Broken("it is a zip archive", "Unpack it first.")
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return Broken("it is a compressed archive", "Unpack it first.")
    return None


def refused_pickle() -> Broken:
    return Broken("it is a pickle, and opening a pickle can run any program", CONVERT, "model_refused")


def head_of(path: Path, limit: int = _SNIFFED) -> bytes | Broken:
    """The first bytes of a regular file."""
    size = regular_size(path)
    if isinstance(size, Broken):
        return size
    try:
        with open(path, "rb") as stream:
            return stream.read(min(limit, size))
    except OSError as error:
        return gone(error)


def read_json(path: Path, limit: int = JSON_LIMIT) -> Any | Broken:
    """A JSON file as plain values.

    Returns:
        The value, or Broken: missing, larger than `limit` bytes, not UTF-8, not JSON, nested too deep, or a page or
        pointer in its place.
    """
    size = regular_size(path)
    if isinstance(size, Broken):
        return size
    name = path.name
    if size > limit:
        return Broken(f"its {name} is {size:,} bytes, far more than such a file needs", COPY_AGAIN)
    try:
        data = path.read_bytes()
    except OSError as error:
        return gone(error)
    if not data.strip():
        return Broken(f"its {name} is empty", COPY_AGAIN)
    found = impostor(data)
    if found is not None:
        return Broken(f"its {name} is something else: {found.why}", found.hint, found.code)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Broken(f"its {name} is not UTF-8 text", COPY_AGAIN)
    except RecursionError:
        return Broken(f"its {name} is nested too deep", COPY_AGAIN)
    except ValueError:  # JSONDecodeError, or a number of thousands of digits
        return Broken(f"its {name} is not JSON", COPY_AGAIN)


def read_json_object(path: Path, limit: int = JSON_LIMIT) -> dict[str, Any] | Broken:
    """`read_json()` for files that must hold an object."""
    value = read_json(path, limit)
    if isinstance(value, Broken):
        return value
    if not isinstance(value, dict):
        return Broken(f"its {path.name} does not hold the settings of a model", COPY_AGAIN)
    return value


def code_in(config: Any, where: str) -> Broken | None:
    """Refuse settings that would make a library run code from the model's folder or from the net.

    Args:
        config: plain values of a settings file.
        where: the file as a person would name it.
    """
    # A list of what is left to look at, not recursion: depth is up to the file.
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            for key in _CODE_KEYS:
                if value.get(key):
                    return Broken(
                        f"its {where} asks to run code that comes with the model (“{key}”)",
                        "Code from model folders never runs here; use a version of the model without it.",
                        "model_refused",
                    )
            left.extend(v for v in value.values() if isinstance(v, dict | list))
        elif isinstance(value, list):
            left.extend(v for v in value if isinstance(v, dict | list))
    return None


def incomplete(have: int, need: int) -> Broken:
    return Broken(f"it is incomplete: {have:,} of {need:,} bytes are there", COPY_AGAIN)
