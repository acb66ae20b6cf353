"""A client for the Kubernetes API over HTTPS, with the certificate of a kubeconfig."""

import asyncio
import json
import os
import ssl
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

CONNECT, ANSWER = 10, 30
"""Seconds for a connection, and for a whole answer, from a machine that is not slow."""


class ApiError(Exception):
    """The API gave no usable answer; the text is one sentence without its full stop."""


class Api:
    """A client for the user of a kubeconfig's current context. An async context manager.

    Raises ApiError for a kubeconfig without a server, an authority or a client certificate inside.
    """

    def __init__(self, kubeconfig: str) -> None:
        try:
            cluster, user = _current(yaml.safe_load(kubeconfig))
            self.server = str(cluster["server"])
            context = _tls(
                authority=_decoded(cluster, "certificate-authority-data"),
                pair=_decoded(user, "client-certificate-data") + _decoded(user, "client-key-data"),
            )
        except (KeyError, TypeError, ValueError, StopIteration, yaml.YAMLError, ssl.SSLError) as e:
            # The message leaves out the error's own text, which could quote a key.
            raise ApiError(f"the stack's kubeconfig cannot be used ({type(e).__name__})") from None
        self.factor = 1.0
        """Multiplies the time limits of answers: more than 1 where machines are slow."""
        # This computer's proxy settings are ignored, since a proxy may not reach the machines.
        self._client = httpx.AsyncClient(verify=context, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def text(self, path: str, *, at: str | None = None, **query: str) -> str:
        """The answer to a GET request, from the kubeconfig's server or from the base URL ``at``.

        Raises ApiError, also for an answer with a status that is no success.
        """
        answer = await self._answer("GET", path, at=at, query=query)
        if not answer.is_success:
            raise _refused(answer)
        return answer.text

    async def object_at(self, path: str) -> dict[str, Any] | None:
        """The object at a path; None where the API has none there. Raises ApiError."""
        answer = await self._answer("GET", path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if not answer.is_success:
            raise _refused(answer)
        return _object(answer.text, answer.url)

    async def delete(self, path: str) -> None:
        """Delete an object, if it is there. Raises ApiError."""
        answer = await self._answer("DELETE", path)
        if not answer.is_success and answer.status_code != httpx.codes.NOT_FOUND:
            raise _refused(answer)

    async def created(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The object that the API makes of ``given`` at a path. Raises ApiError."""
        answer = await self._answer("POST", path, given=given)
        if not answer.is_success:
            raise _refused(answer)
        return _object(answer.text, answer.url)

    async def _answer(
        self,
        method: str,
        path: str,
        *,
        at: str | None = None,
        query: Mapping[str, str] | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        base = (at or self.server).rstrip("/")
        try:
            seconds = ANSWER * self.factor
            limits = httpx.Timeout(seconds, connect=CONNECT * self.factor)
            async with asyncio.timeout(seconds):
                return await self._client.request(
                    method, base + path, params=query or None, json=given, timeout=limits
                )
        except (httpx.TimeoutException, TimeoutError) as error:
            raise ApiError(f"{base}{path} gives no answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiError(f"{base} cannot be reached ({_cause(error)})") from error

    async def json(self, path: str, *, at: str | None = None, **query: str) -> dict[str, Any]:
        """The same as ``text``, for an answer that is a JSON object."""
        return _object(await self.text(path, at=at, **query), f"{at or self.server}{path}")


def _object(text: str, url: object) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ApiError(f"{url} answers, but not as a Kubernetes API does")
    return value


def _refused(answer: httpx.Response) -> ApiError:
    url = answer.url.copy_with(query=None)
    return ApiError(f"{url} answers {answer.status_code} ({_reason(answer.text)})")


def _current(config: Any) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The cluster and the user of the current context."""

    def named(many: str, single: str, name: str) -> Any:
        return next(entry[single] for entry in config[many] if entry["name"] == name)

    context = named("contexts", "context", config["current-context"])
    return named("clusters", "cluster", context["cluster"]), named("users", "user", context["user"])


def _decoded(entry: Mapping[str, str], key: str) -> str:
    return b64decode(entry[key], validate=True).decode()


def _tls(*, authority: str, pair: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority)
    # OpenSSL reads a key only from a file, so the file exists until OpenSSL has read it.
    with TemporaryDirectory(prefix="hardway-") as folder:
        file = Path(folder) / "pair.pem"
        file.touch(mode=0o600)
        file.write_text(pair)
        context.load_cert_chain(file)
    return context


def _cause(error: BaseException) -> str:
    """The reason from the operating system or from TLS, which httpx wraps several times."""
    reason = str(error)
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"its certificate is not good: {inner.verify_message}"
        if isinstance(inner, OSError) and inner.errno and not isinstance(inner, ssl.SSLError):
            reason = os.strerror(inner.errno)
        inner = inner.__cause__ or inner.__context__
    return reason or type(error).__name__


def _reason(text: str) -> str:
    """The message of a Status object, the checks of /readyz that failed, or the first line."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith("[-]")]
    return "; ".join(failed or lines[:1]) or "no reason given"
