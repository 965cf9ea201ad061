"""Calls of OpenAI's chat completions over HTTP, tried again a bounded number of times. The key stays in memory."""

import email.utils
import http.client
import json
import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NoReturn, final
from urllib.parse import urlsplit

from dpo_lab.chat.knobs import Knobs
from dpo_lab.errors import UserError
from dpo_lab.hub import answers, first_stop
from dpo_lab.run.redaction import REDACTED, redact_text

FIRST_WAIT_SECONDS = 0.5
MAX_BYTES = 2**24
"""Of an answer that is read; no answer that is asked for here comes near."""

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class _TransientError(Exception):
    """A call that may go better the next time; after `wait` seconds, where the server says so."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key, and the texts, to an address that nobody has named."""

    def redirect_request(self, *_: Any) -> None:
        return None


@final
class ChatClient:
    """One server. `num_calls` counts requests, those that were tried again included."""

    def __init__(
        self,
        url: str,
        key_variable: str | None,
        *,
        timeout: float,
        max_retries: int,
        max_wait: float,
        knobs: Knobs,
    ) -> None:
        self._url = url.rstrip("/")
        self._key_variable = key_variable
        self._knobs = knobs
        self._timeout, self._max_retries, self._max_wait = timeout, max_retries, max_wait
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._stopped = threading.Event()
        self.num_calls = 0

    def check(self) -> None:
        """
        Raises:
            UserError: the address is none, or holds a password; there is no key where one is named.
        """
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"{self._knobs.name('url')}={redact_text(self._url)}: must be http://HOST/v1 or https://HOST/v1"
            )
        if parts.username or parts.password or parts.query:
            raise UserError(
                f"{self._knobs.name('url')}: holds a login or a query, which would be recorded; name the variable of "
                f"the key instead: {self._knobs.name('key_variable')}=OPENAI_API_KEY"
            )
        self._key()

    def stop(self) -> None:
        """Try nothing again from now on, whoever waits for it."""
        self._stopped.set()

    def is_there(self) -> bool:
        """Whether anybody listens at the address, or at the proxy in front of it, within seconds."""
        return answers(*first_stop(self._url))

    def complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The first choice of the answer to ``POST /chat/completions``, a mapping.

        Raises:
            UserError: the server refuses the request, or has not answered after all tries.
        """
        body = json.dumps(request).encode()
        reason = ""
        for attempt in range(self._max_retries + 1):
            try:
                return self._call(body)
            except _TransientError as trouble:
                reason = str(trouble)
                if attempt < self._max_retries:
                    wait = trouble.wait if trouble.wait is not None else FIRST_WAIT_SECONDS * 2**attempt
                    self._stopped.wait(min(wait, self._max_wait))
                    if self._stopped.is_set():
                        break
        raise UserError(
            f"{self._url} gave no answer in {self._max_retries + 1} tries; the last: {self._hide(reason)}. What was "
            "answered is kept: the same command asks the rest"
        )

    def _call(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "dpo-lab"}
        if (key := self._key()) is not None:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self._url}/chat/completions", body, headers, method="POST")
        self.num_calls += 1
        began = time.monotonic()
        late = f"no answer within {self._knobs.name('timeout_seconds')}={self._timeout:g}"
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                content = _read_within(response, began + self._timeout)
        except urllib.error.HTTPError as error:
            self._refused(error)
        except TimeoutError as error:
            raise _TransientError(late) from error
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            raise _TransientError(late if isinstance(reason, TimeoutError) else f"no connection: {reason}") from error
        try:
            choice = json.loads(content)["choices"][0]
            return {**choice, "message": dict(choice["message"])}
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise _TransientError(f"an answer that is no chat completion: {_excerpt(content)}") from error

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        try:
            said = _excerpt(error.read(2000))
        except (OSError, http.client.HTTPException):
            said = ""
        reason = f"HTTP {error.code}" + (f": {said}" if said else "")
        if error.code in _AGAIN:
            raise _TransientError(reason, _retry_after(error.headers.get("Retry-After"))) from error
        meaning = self._meaning(error.code)
        raise UserError(f"{self._url} refuses: {self._hide(reason)}" + (f"; {meaning}" if meaning else "")) from error

    def _meaning(self, code: int) -> str | None:
        name = self._knobs.name
        if 300 <= code < 400:
            return "it leads to another address; give that one"
        return {
            400: f"it takes no such request: is {name('max_tokens')} or {name('temperature')} what this model takes?",
            401: f"it wants another key: {name('key_variable')} names the environment variable that holds it",
            403: "this key may not use it",
            404: f"no such model or address: {name('url')} ends with the version (https://HOST/v1), {name('model')} is "
            "its name",
        }.get(code)

    def _key(self) -> str | None:
        """Read whenever it is needed, so that nothing that is written or shown can hold it."""
        if self._key_variable is None:
            return None
        key = os.environ.get(self._key_variable, "").strip()
        if not key:
            raise UserError(
                f"{self._knobs.name('key_variable')}={self._key_variable}: there is no such environment variable, or "
                f"it is empty; export it, or {self._knobs.absent('key_variable')} for a server that wants no key"
            )
        if not key.isprintable() or not key.isascii():
            name = self._knobs.name("key_variable")
            raise UserError(f"{name}={self._key_variable}: what it holds cannot be sent as a key")
        return key

    def hide(self, text: str) -> str:
        """`text` without the key, whatever the variable is called, and without other secrets."""
        return self._hide(text)

    def _hide(self, text: str) -> str:
        key = self._key()
        return redact_text(text if key is None else text.replace(key, REDACTED))


def _read_within(response: Any, end: float) -> bytes:
    """The whole body: a time-out of a socket bounds each piece, and a server that drips would bound nothing."""
    pieces, size = [], 0
    while piece := response.read1(65536):
        pieces.append(piece)
        size += len(piece)
        if time.monotonic() > end:
            raise TimeoutError
        if size > MAX_BYTES:
            raise _TransientError(f"an answer of more than {MAX_BYTES} bytes")
    return b"".join(pieces)


def _retry_after(header: str | None) -> float | None:
    """Seconds, of a number or a date; None where the server says nothing that can be read."""
    if header is None:
        return None
    try:
        seconds = float(header)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _excerpt(content: bytes) -> str:
    return " ".join(content[:200].decode("utf-8", errors="replace").split())
