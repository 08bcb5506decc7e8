"""Asks pyright's language server what an editor would show."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, cast, final

from typing_tests.checkers import ROOT


@final
class LanguageServer:
    """A language server with one open file, which is not on disk.

    Args:
        text: What is in the file.
    """

    def __init__(self, text: str) -> None:
        self._lines: Final = text.splitlines()
        self._uri: Final = (ROOT / "typing_tests" / "open_in_an_editor.py").as_uri()
        self._requests = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyright.langserver", "--stdio"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._open()
        except BaseException:
            self._process.kill()
            raise
        return self

    def _open(self) -> None:
        folder = {"uri": ROOT.as_uri(), "name": "repository"}
        formats = {"contentFormat": ["plaintext"]}
        self._ask(
            "initialize",
            processId=None,
            rootUri=folder["uri"],
            workspaceFolders=[folder],
            capabilities={"textDocument": {"hover": formats}},
        )
        self._tell("initialized")
        text = "\n".join(self._lines)
        self._tell(
            "textDocument/didOpen",
            textDocument={"uri": self._uri, "languageId": "python", "version": 1, "text": text},
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process:
            if error is None:
                self._ask("shutdown")
                self._tell("exit")
            else:
                self._process.kill()

    def signatures(self, line: str) -> list[str]:
        """Return the signatures that are shown at the end of a line, the active one first."""
        found = self._ask_at("textDocument/signatureHelp", line, len(line))
        return [signature["label"] for signature in found["signatures"]]

    def keywords(self, line: str) -> list[str]:
        """Return the parameters that are offered at the end of a line."""
        found = self._ask_at("textDocument/completion", line, len(line))
        labels = [item["label"] for item in found["items"]]
        return [label.removesuffix("=") for label in labels if label.endswith("=")]

    def hover(self, line: str) -> str:
        """Return what is shown of the first name in a line."""
        return cast("str", self._ask_at("textDocument/hover", line, 0)["contents"]["value"])

    def _ask_at(self, method: str, line: str, character: int) -> Any:  # noqa: ANN401 - JSON
        position = {"line": self._lines.index(line), "character": character}
        return self._ask(method, textDocument={"uri": self._uri}, position=position)

    # ------------------------------------------------------------------ JSON-RPC

    def _ask(self, method: str, **parameters: object) -> Any:  # noqa: ANN401 - JSON
        self._requests += 1
        self._send({"id": self._requests, "method": method, "params": parameters})
        while True:
            message = self._receive()
            if message.get("id") == self._requests and "method" not in message:
                return message["result"]
            if "id" in message:  # It asks for settings, and has its own.
                items = cast("Sequence[object]", message["params"].get("items", ()))
                self._send({"id": message["id"], "result": [None for _ in items]})

    def _tell(self, method: str, **parameters: object) -> None:
        self._send({"method": method, "params": parameters})

    def _send(self, message: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        length = 0
        while header := self._process.stdout.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return cast("dict[str, Any]", json.loads(self._process.stdout.read(length)))
