"""Conversations as other programs write them, made into messages of system, user and assistant.

Knows how messages, ShareGPT, question-and-answer tables, ChatGPT's exports and WhatsApp's look; opens no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from studio.engines.data.sources import WHATSAPP

Message = dict[str, str]

MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
QUESTIONS = ("instruction", "question", "prompt", "query", "request", "user", "human")
ANSWERS = ("output", "answer", "response", "completion", "reply", "target", "assistant", "chosen")
_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user", "question": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "ai": "assistant", "answer": "assistant", "bing": "assistant",
}  # fmt: skip
TURNS_LIMIT = 10_000  # messages of one conversation


def content_of(value: Any) -> str:
    """The text of a message's content: a string, or a list of parts of which the texts count."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return content_of(value.get("text") or value.get("parts") or value.get("content") or "")
    if isinstance(value, list):
        return "\n".join(text for text in map(content_of, value) if text)
    return ""


def messages_of(value: Any) -> list[Message] | None:
    """A list of messages in one of the usual writings; None where it is something else.

    Messages of one role that follow each other are joined. Those of tools are left out.
    """
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        return None
    found: list[Message] = []
    known = False
    for each in value[:TURNS_LIMIT]:
        said = each.get("role", each.get("from"))
        author = each.get("author")
        if said is None and isinstance(author, dict):
            said = author.get("role")
        role = _ROLES.get(str(said).lower(), "") if said is not None else ""
        known = known or bool(role)
        text = content_of(each.get("content", each.get("value", each.get("text", ""))))
        if role and text.strip():
            _add(found, role, text)
    return found if known else None


def _add(found: list[Message], role: str, text: str) -> None:
    if found and found[-1]["role"] == role:
        found[-1] = {"role": role, "content": f"{found[-1]['content']}\n{text}"}
    else:
        found.append({"role": role, "content": text})


def chatgpt(value: dict[str, Any]) -> list[Message] | None:
    """The conversation of a `conversations.json` as it stood at its end: branches that were left are left out."""
    mapping = value.get("mapping")
    if not isinstance(mapping, dict):
        return None
    at = value.get("current_node")
    if at not in mapping:
        at = next(reversed(mapping), None)
    chain: list[dict[str, Any]] = []
    seen = set()
    while isinstance(at, str) and at in mapping and at not in seen:
        seen.add(at)
        node = mapping[at] if isinstance(mapping[at], dict) else {}
        message = node.get("message")
        if isinstance(message, dict) and not (message.get("metadata") or {}).get(
            "is_visually_hidden_from_conversation"
        ):
            chain.append(message)
        at = node.get("parent")
    return messages_of(chain[::-1]) or []


def asked(question: Any, answer: Any, more: Any = "", system: Any = "") -> list[Message]:
    """A question with its answer as a conversation. `more`: what the question is about."""
    asks = content_of(question)
    about = content_of(more)
    replies = messages_of(answer)  # of preferences the whole conversation stands in “chosen”
    if replies:
        return replies
    found = [{"role": "system", "content": content_of(system)}] if content_of(system).strip() else []
    found.append({"role": "user", "content": f"{asks}\n\n{about}" if about.strip() else asks})
    found.append({"role": "assistant", "content": content_of(answer)})
    return found


def whole(messages: list[Message]) -> bool:
    """Whether there is somebody who says something and somebody who answers."""
    roles = {message["role"] for message in messages if message["content"].strip()}
    return {"user", "assistant"} <= roles


def told(messages: list[Message]) -> str:
    """A conversation as a text."""
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def speakers(lines: Iterable[str]) -> list[str]:
    """Who writes in a WhatsApp chat, who writes most first."""
    count = Counter(match[2] for match in map(WHATSAPP.match, lines) if match and match[2])
    return [name for name, _ in sorted(count.items(), key=lambda each: (-each[1], each[0]))]


def whatsapp(lines: Iterable[str], answers: str) -> Iterator[list[Message]]:
    """A WhatsApp chat as conversations, one a day. Who is named `answers` is the assistant, all others the user."""
    day = ""
    found: list[Message] = []
    for line in lines:
        line = line.rstrip("\n").lstrip("\u200e\u200f")
        match = WHATSAPP.match(line)
        if match is None:
            if found:  # a message of several lines
                found[-1]["content"] += f"\n{line}"
            continue
        if match[1] != day or len(found) >= TURNS_LIMIT:
            if found:
                yield found
            day, found = match[1], []
        text = match[3].strip("\u200e\u200f ")
        if match[2] is None or not text or (text.startswith("<") and text.endswith(">")):
            continue  # said by the program: somebody joined, a picture was left out
        _add(found, "assistant" if match[2] == answers else "user", text)
    if found:
        yield found
