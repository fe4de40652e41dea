"""MLflow models for a Python program, from the mlflow-sidecar beside it. One file, standard library only.

    model = mlflow.pyfunc.load_model(model_path("models:/topic-classification/Production"))

The environment is read at each call: SIDECAR_URL (default http://127.0.0.1:5080), SIDECAR_TOKEN, and SIDECAR_CACHE_DIR
(default as the sidecar's), where the published directory is found while the sidecar does not answer.
Errors are SidecarError, in one of its four kinds, and ValueError for an argument or a variable that cannot be used.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import logging
import os
import re
import socket
import ssl
import stat
import threading
import time
from typing import Any, Callable, Generic, Literal, NamedTuple, Optional, TypedDict, TypeVar, Union, cast
from urllib.parse import SplitResult, urlsplit

__all__ = ["CacheNotMounted", "ModelUnavailable", "Outcome", "OutcomeWarning", "SidecarError", "SidecarRefused"]
__all__ += ["SidecarUnavailable", "Watcher", "model_path", "reload", "watch"]

_log = logging.getLogger("mlflow_sidecar")

_DEFAULT_URL = "http://127.0.0.1:5080"
_DEFAULT_MAX_STALE_S = 604800.0
_MAX_ANSWER_BYTES = 1024 * 1024
_MAX_RECORD_BYTES = 64 * 1024
# A sidecar that has a version answers within SIDECAR_REFRESH_WAIT_S (2 s) and 0.25 s, unless it downloads a newer one.
_SILENT_S = 2.5
# Its /healthz waits for nothing.
_HEALTH_S = 2.0
_LOOK_S = 1.0
_MOST_LOOKS = 8
_VISIBLE_ASCII = re.compile(r"[!-~]+")
# Airflow sets all but the last; that one is there where the deployment's own get_airflow_context_vars gives `map_index`.
_AIRFLOW = {
    "X-Airflow-Dag-Id": "AIRFLOW_CTX_DAG_ID",
    "X-Airflow-Run-Id": "AIRFLOW_CTX_DAG_RUN_ID",
    "X-Airflow-Task-Id": "AIRFLOW_CTX_TASK_ID",
    "X-Airflow-Try-Number": "AIRFLOW_CTX_TRY_NUMBER",
    "X-Airflow-Map-Index": "AIRFLOW_CTX_MAP_INDEX",
}


class OutcomeWarning(TypedDict):
    code: str
    message: str
    hint: Optional[str]


class Outcome(TypedDict):
    """The sidecar's answer for one model; its openapi.json says what each field means."""

    status: Literal["loaded", "unchanged", "stale", "missing", "failed"]
    model_uri: str
    mlflow_uri: str
    name: Optional[str]
    version: Optional[str]
    wanted_version: Optional[str]
    previous_version: Optional[str]
    changed: bool
    stage: Optional[str]
    aliases: list[str]
    run_id: Optional[str]
    model_id: Optional[str]
    created: Optional[float]
    path: Optional[str]
    ref_path: Optional[str]
    digest: Optional[str]
    files: Optional[int]
    bytes: Optional[int]
    source: Optional[Literal["mlflow", "cache"]]
    age_s: Optional[float]
    duration_s: float
    attempts: int
    breaker: Literal["closed", "open", "half-open"]
    refreshing: bool
    job_id: Optional[str]
    warning: Optional[OutcomeWarning]
    request_id: str


class SidecarError(Exception):
    """No model can be given."""


class SidecarUnavailable(SidecarError):
    """Nobody answers as a sidecar does, and no published version can be given instead."""


class CacheNotMounted(SidecarError):
    """The sidecar gave a directory that is not there for this process."""


class _Answered(SidecarError):
    def __init__(self, code: str, message: str, hint: Optional[str]) -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" {self.hint}" if self.hint else "")


class ModelUnavailable(_Answered):
    """The sidecar has nothing to give: `model_not_found`, `mlflow_unreachable`, `deadline_exceeded`, …"""


class SidecarRefused(_Answered):
    """The sidecar takes no such request: `invalid_request`, `unauthorized`, `not_allowed`, … It would not the next time."""


def model_path(uri: str, *, deadline_s: float = 60.0, max_stale_s: Optional[float] = None) -> str:
    """The directory of the model, for `load_model`: one complete version, which never changes.

    While the sidecar does not answer it is the version that is already published; a line of the log warns of that. A sidecar
    that is silent for 2.5 s is asked whether it is alive, and has 2 s to say so where such a version is there.

    deadline_s: the whole call. The sidecar refuses more than its SIDECAR_RELOAD_DEADLINE_MAX_S, 600 unless set.
    max_stale_s: a version that MLflow confirmed longer ago is not given. None: what the sidecar is set to, and 7 days while
    it does not answer.
    Raises ModelUnavailable, SidecarRefused, SidecarUnavailable, CacheNotMounted.
    """
    path, trouble = _path_now(_Call(), uri, deadline_s, max_stale_s)
    if trouble is not None:
        _log.warning("%s: %s", uri, trouble.text)
    return path


def reload(
    *uris: str, deadline_s: float = 60.0, max_stale_s: Optional[float] = None, force: bool = False
) -> list[Outcome]:
    """Has the sidecar reload these models, or without any all that it is configured for; equal URIs have one outcome.

    force: download and verify again, even if the version is cached. The seconds are model_path's.
    Raises SidecarRefused, SidecarUnavailable.
    """
    fields = {"model_uris": uris} if uris else {}
    return _Call().outcomes({**fields, "force": force}, deadline_s, max_stale_s)


def watch(
    uri: str,
    callback: Callable[[str], object],
    *,
    interval_s: float = 10.0,
    deadline_s: float = 60.0,
    max_stale_s: Optional[float] = None,
) -> Watcher:
    """Calls `callback` with the model's directory: first as soon as there is one, then on each change.

    A daemon thread asks as model_path does, each time interval_s after the last answer, and calls. Whatever fails is
    logged and tried again; a directory counts as seen once its callback has returned. The thread is not there in a process
    that is forked later: start it in each.
    """
    return Watcher(uri, callback, interval_s, (deadline_s, max_stale_s))


class Watcher:
    """What `watch` started."""

    def __init__(
        self, uri: str, callback: Callable[[str], object], interval_s: float, limits: tuple[float, Optional[float]]
    ) -> None:
        if not interval_s > 0:
            raise ValueError(f"interval_s={interval_s} must be more than 0.")
        self._uri = uri
        self._callback = callback
        self._interval_s = interval_s
        self._limits = limits
        self._seen: Optional[str] = None
        self._trouble: Optional[str] = None
        self._call = _Call()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {uri}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it. A question under way is given up, a callback under way is waited for."""
        self._stopping.set()
        self._call.cancel()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            path, trouble = self._ask()
            if self._stopping.is_set():
                return
            self._tell(trouble)
            if path is not None and path != self._seen:
                self._hand_over(path)
            self._stopping.wait(self._interval_s)

    def _ask(self) -> tuple[Optional[str], Optional[_Trouble]]:
        self._call = _Call()
        if self._stopping.is_set():
            return None, None
        try:
            return _path_now(self._call, self._uri, *self._limits)
        except Exception as error:
            return None, _Trouble(f"{type(error).__name__} {getattr(error, 'code', '')}", str(error))

    def _tell(self, trouble: Optional[_Trouble]) -> None:
        """When it begins, turns into another or ends; not at each turn."""
        kind = None if trouble is None else trouble.kind
        if kind == self._trouble:
            return
        self._trouble = kind
        if trouble is None:
            _log.info("%s: the sidecar gives the newest version again.", self._uri)
        else:
            _log.warning("%s: %s", self._uri, trouble.text)

    def _hand_over(self, path: str) -> None:
        try:
            self._callback(path)
        except Exception:
            _log.exception("%s: the callback failed for %s and will be called again.", self._uri, path)
        else:
            self._seen = path


class _Trouble(NamedTuple):
    """Why a path may not be the newest one's, or why there is none."""

    kind: str
    text: str


def _path_now(
    call: _Call, uri: str, deadline_s: float, max_stale_s: Optional[float]
) -> tuple[str, Optional[_Trouble]]:
    ends_at = time.monotonic() + deadline_s

    def published() -> tuple[str, str]:
        return _published(uri, _DEFAULT_MAX_STALE_S if max_stale_s is None else max_stale_s)

    try:
        outcome = call.outcomes({"model_uris": [uri]}, deadline_s, max_stale_s, instead=published)[0]
    except SidecarUnavailable as down:
        try:
            path, what = _look(published, ends_at - time.monotonic())
        except _NotPublished as reason:
            raise SidecarUnavailable(f"{down} Nor can a published version be given: {reason}") from down
        return path, _Trouble("down", f"{down} The published {what}, is given.")
    warning = outcome["warning"] or {"code": "internal", "message": "No reason is known.", "hint": None}
    if outcome["path"] is None:
        raise ModelUnavailable(warning["code"], warning["message"], warning["hint"])
    path = _mounted(outcome["path"], ends_at)
    if outcome["status"] != "stale":
        return path, None
    what = f"version {outcome['version']}, confirmed by MLflow {outcome['age_s']} s ago"
    return path, _Trouble(f"stale {warning['code']}", f"{warning['code']}: {warning['message']} The last good {what}, is given.")


def _mounted(given: str, ends_at: float) -> str:
    def look() -> Optional[str]:
        path = os.path.realpath(given)
        return path if os.path.isdir(path) else None

    try:
        path = _look(look, ends_at - time.monotonic())
    except _NotPublished as reason:
        raise CacheNotMounted(f"The sidecar gives {given}, but {reason}") from reason
    if path is None:
        raise CacheNotMounted(
            f"The sidecar gives {os.path.abspath(given)}, which is not a directory here: mount its cache at the same path, as a"
            " whole (read-only will do)."
        )
    return path


_T = TypeVar("_T")


class _Later(Generic[_T]):
    """What comes of work in another thread, which nobody has to wait for. The first word counts.

    By `threading` alone, which gevent and eventlet replace as a whole.
    """

    def __init__(self) -> None:
        self._done = threading.Event()
        self._end: Union[_T, Exception, None] = None

    def start(self, work: Callable[[], _T]) -> threading.Thread:
        """Raises RuntimeError where there can be no more threads."""
        thread = threading.Thread(target=self._run, args=(work,), name="mlflow_sidecar", daemon=True)
        thread.start()
        return thread

    def settle(self, end: Union[_T, Exception]) -> None:
        if not self._done.is_set():
            self._end = end
            self._done.set()

    def wait(self, seconds: float) -> bool:
        return self._done.wait(max(0.0, seconds))

    def get(self) -> _T:
        if isinstance(self._end, Exception):
            raise self._end
        return cast("_T", self._end)

    def _run(self, work: Callable[[], _T]) -> None:
        try:
            self.settle(work())
        except Exception as error:
            self.settle(error)


_looks: list[threading.Thread] = []


def _look(work: Callable[[], _T], seconds: float) -> _T:
    """Work on the disk, which may hang; those that do are bounded in number. Raises _NotPublished, or what the work does."""
    _looks[:] = [thread for thread in _looks if thread.is_alive()]
    later: _Later[_T] = _Later()
    if len(_looks) >= _MOST_LOOKS:
        raise _NotPublished("the disk does not answer.")
    try:
        _looks.append(later.start(work))
    except RuntimeError:
        return work()
    if not later.wait(max(0.1, seconds)):
        raise _NotPublished("the disk does not answer.")
    return later.get()


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


class _NoAnswer(Exception):
    """What the sidecar does instead; the end of a sentence."""


class _Call:
    """One question to the sidecar. It is asked in a daemon thread, for whose end the caller waits as long as it likes:
    a socket's timeout is per read, and getaddrinfo has none."""

    def __init__(self) -> None:
        self._answer: _Later[_Answer] = _Later()
        self._socket: Optional[socket.socket] = None
        self._cancelled = False

    def outcomes(
        self,
        fields: dict[str, Any],
        deadline_s: float,
        max_stale_s: Optional[float],
        instead: Optional[Callable[[], object]] = None,
    ) -> list[Outcome]:
        """instead: what can be given where the sidecar is silent; it raises where there is nothing."""
        if not 0 < deadline_s < float("inf"):
            raise ValueError(f"deadline_s={deadline_s} must be a number of seconds, more than 0.")
        # The rest is for what is published.
        ends_at = time.monotonic() + deadline_s - min(0.2, deadline_s / 10)
        # Less, so that the sidecar's own word that the time is up, and why, arrives in time.
        asked = {**fields, "deadline_s": max(0.1, deadline_s - min(1.0, deadline_s / 5))}
        if max_stale_s is not None:
            asked["max_stale_s"] = max_stale_s
        url, body = _address(), json.dumps(asked).encode()
        try:
            self._start(url, "POST", "/v1/reload", _headers(), body, ends_at)
            try:
                while not self._answer.wait(min(_SILENT_S, ends_at - time.monotonic())):
                    if time.monotonic() >= ends_at:
                        raise _NoAnswer(f"did not answer within {deadline_s:g} s.")
                    if instead is not None and self._is_dead(url, ends_at) and _is_there(instead):
                        raise _NoAnswer(f"is silent, and its /healthz does not answer within {_HEALTH_S:g} s either.")
            except BaseException:
                self.cancel()
                raise
            return _outcomes(self._get())
        except _NoAnswer as error:
            raise SidecarUnavailable(f"The sidecar at {url.geturl()} {error}") from error

    def cancel(self) -> None:
        """Hangs up, and wakes whoever waits for the answer. It may come at any time, from any thread."""
        self._cancelled = True
        self._answer.settle(ConnectionAbortedError("given up"))
        if self._socket is not None:
            _hang_up(self._socket)

    def _is_dead(self, url: SplitResult, ends_at: float) -> bool:
        """Whether nobody answers on another connection either. One that downloads does."""
        until = min(ends_at, time.monotonic() + _HEALTH_S)
        other = _Call()
        try:
            other._start(url, "GET", "/healthz", {"Connection": "close"}, b"", until)
            while time.monotonic() < until:
                if other._answer.wait(0.05):
                    other._get()
                    return False
                if self._answer.wait(0):
                    return False
        except _NoAnswer:
            pass
        finally:
            other.cancel()
        return True

    def _get(self) -> _Answer:
        try:
            return self._answer.get()
        except _NoAnswer:
            raise
        except Exception as error:
            raise _NoAnswer(f"does not answer ({error!r}).") from error

    def _start(
        self, url: SplitResult, method: str, path: str, headers: dict[str, str], body: bytes, ends_at: float
    ) -> None:
        def ask() -> _Answer:
            try:
                return self._exchange(url, method, path, headers, body, ends_at)
            finally:
                if self._socket is not None:
                    self._socket.close()

        try:
            self._answer.start(ask)
        except RuntimeError as error:
            raise _NoAnswer(f"cannot be asked ({error})") from error

    def _exchange(
        self, url: SplitResult, method: str, path: str, headers: dict[str, str], body: bytes, ends_at: float
    ) -> _Answer:
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        # http.client knows neither redirects nor the environment's proxies.
        connection = http.client.HTTPConnection(host, port)
        # Longer than the caller waits: it is the caller who finds that the time is up.
        connection.sock = self._connect(url.scheme, host, port, max(0.0, ends_at - time.monotonic()) + 1)
        connection.request(method, f"{url.path.rstrip('/')}{path}", body, headers)
        with connection.getresponse() as response:
            content = response.read(_MAX_ANSWER_BYTES + 1)
            if len(content) > _MAX_ANSWER_BYTES:
                raise _NoAnswer("answers with more than 1 MiB.")
            return _Answer(response.status, response.headers.get_content_type(), content)

    def _connect(self, scheme: str, host: str, port: int, timeout_s: float) -> socket.socket:
        self._socket = connected = socket.create_connection((host, port), timeout_s)
        if scheme == "https":
            self._socket = connected = ssl.create_default_context().wrap_socket(
                connected, server_hostname=host, do_handshake_on_connect=False
            )
        # `cancel` sees the socket, or this sees `cancel`.
        if self._cancelled:
            raise ConnectionAbortedError("given up")
        if isinstance(connected, ssl.SSLSocket):
            connected.do_handshake()
        return connected


def _hang_up(connected: socket.socket) -> None:
    shutdown: Callable[[int], object] = connected.shutdown
    if isinstance(connected, ssl.SSLSocket):
        # Its own drops what another thread still reads with. A green one may be no socket of the system's.
        for kind in type(connected).__mro__:
            if kind.__module__ == "_socket":
                shutdown = functools.partial(kind.__dict__["shutdown"], connected)
    try:
        shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It is not connected any more, or not yet.


def _is_there(instead: Callable[[], object]) -> bool:
    try:
        _look(instead, _LOOK_S)
    except _NotPublished:
        return False
    return True


def _address() -> SplitResult:
    text = os.environ.get("SIDECAR_URL", "").strip() or _DEFAULT_URL
    try:
        url = urlsplit(text)
        has_host = bool((url.hostname or "").encode("idna")) and url.port != 0
        if url.scheme in ("http", "https") and has_host and _VISIBLE_ASCII.fullmatch(text):
            if not ("@" in url.netloc or url.query or url.fragment):
                return url
    except ValueError:
        pass  # It is no URL, its port no number or its host no name.
    raise ValueError("SIDECAR_URL must be http(s)://host:port, perhaps with a path, and without a user name.")


def _headers() -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
    token = os.environ.get("SIDECAR_TOKEN", "").strip()
    if token:
        # http.client refuses others too, and shows them.
        if not _VISIBLE_ASCII.fullmatch(token):
            raise ValueError("SIDECAR_TOKEN must be visible ASCII characters without blanks.")
        headers["Authorization"] = f"Bearer {token}"
    for header, variable in _AIRFLOW.items():
        value = os.environ.get(variable)
        if value:
            headers[header] = re.sub("[^ -~]", "?", value)[:250]
    return headers


def _outcomes(answer: _Answer) -> list[Outcome]:
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    fields = body if isinstance(body, dict) else {}
    models = fields.get("models")
    if isinstance(models, list) and models and all(map(_is_outcome, models)):
        return cast("list[Outcome]", models)
    code, detail, hint = fields.get("code"), fields.get("detail"), fields.get("hint")
    if answer.content_type != "application/problem+json" or not (isinstance(code, str) and isinstance(detail, str)):
        raise _NoAnswer(f"answers HTTP {answer.status} as no sidecar does: is SIDECAR_URL the right address?")
    # A timeout and a rate limit pass.
    if 400 <= answer.status < 500 and answer.status not in (408, 429):
        raise SidecarRefused(code, detail, hint if isinstance(hint, str) else None)
    raise _NoAnswer(f"answers {code}: {detail}")


def _is_outcome(value: object) -> bool:
    if not isinstance(value, dict) or not {"status", "version", "path", "age_s", "warning"} <= value.keys():
        return False
    path, warning = value["path"], value["warning"]
    is_warning = isinstance(warning, dict) and {"code", "message", "hint"} <= warning.keys()
    return (path is None or isinstance(path, str)) and (warning is None or is_warning)


class _NotPublished(Exception):
    """Why no published version can be given; a sentence."""


def _published(uri: str, max_stale_s: float) -> tuple[str, str]:
    """The directory of the published version, and which version that is.

    It goes by the ref's record alone: the link is switched after it, and does not say when MLflow confirmed its version.
    """
    canonical, name, ref = _parse(uri)
    root = os.path.join(_cache_dir(), "v1")
    record = _record_file(root, name, ref, canonical)
    path = ""
    # A record that has just been replaced may name a snapshot that is gone by now: look again.
    for wait_s in (0.0, 0.02, 0.05):
        time.sleep(wait_s)
        snapshot, what = _read_record(record, canonical, max_stale_s)
        path = os.path.realpath(os.path.join(root, "snapshots", snapshot))
        if os.path.isdir(path):
            return path, what
    raise _NotPublished(f"{record} names {path}, which is not there.")


def _record_file(root: str, name: str, ref: str, uri: str) -> str:
    """Where the file system does not tell case, capital letters are encoded, too, and the first file may be another model's."""
    first, folded = (
        os.path.join(root, "refs", _file_name(name, letters), f"{_file_name(ref, letters)}.json")
        for letters in (rb"A-Za-z", rb"a-z")
    )
    try:
        is_ours = json.loads(_read_regular(first))["model_uri"] == uri
        return first if is_ours or not os.path.exists(folded) else folded
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return folded if os.path.exists(folded) else first


def _read_record(file: str, uri: str, max_stale_s: float) -> tuple[str, str]:
    try:
        record = json.loads(_read_regular(file))
    except FileNotFoundError:
        raise _NotPublished(f"{file} is not there. Is SIDECAR_CACHE_DIR set to the sidecar's?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _NotPublished(f"{file} cannot be read: {error}.") from error
    if not isinstance(record, dict) or record.get("format") != 1 or record.get("model_uri") != uri:
        raise _NotPublished(f"{file} is not a record of {uri}.")
    snapshot, confirmed_at = record.get("snapshot"), record.get("confirmed_at")
    if snapshot is None:
        raise _NotPublished(f"{file} says that there is none.")
    is_id = isinstance(snapshot, str) and re.fullmatch("[0-9a-f]{32}(-[0-9a-f]{8})?", snapshot)
    if not is_id or not isinstance(confirmed_at, (int, float)):
        raise _NotPublished(f"{file} does not say which one was confirmed when.")
    age_s = time.time() - confirmed_at
    what = f"version {record.get('version')}, confirmed by MLflow {age_s:.0f} s ago"
    # Not `>`: a NaN is no age.
    if not age_s <= max_stale_s:
        raise _NotPublished(f"{what}, is older than max_stale_s={max_stale_s:g} allows.")
    return str(snapshot), what


def _read_regular(file: str) -> bytes:
    # What is no file may have nobody at its other end.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with open(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a regular file")
        content = opened.read(_MAX_RECORD_BYTES + 1)
    if len(content) > _MAX_RECORD_BYTES:
        raise ValueError(f"it has more than {_MAX_RECORD_BYTES} bytes")
    return content


def _cache_dir() -> str:
    given = os.environ.get("SIDECAR_CACHE_DIR", "").strip()
    if given:
        return os.path.abspath(given)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "mlflow-sidecar")


# What follows is the sidecar's domain/model-uri.ts and store/disk/names.ts.
_FIXED_REFS = ("None", "Staging", "Production", "Archived", "latest")
_MAX_VERSION = 2147483647


def _parse(uri: str) -> tuple[str, str, str]:
    """The canonical text of a model URI, and the name and the ref that the sidecar keeps it under."""
    scheme, _, rest = uri.partition(":/")
    name, *refs = rest.split("/")
    if not _is_plain(uri):
        pass
    elif scheme == "runs" and re.fullmatch(r"[\w-]{1,250}", name, re.ASCII):
        path = "/".join(filter(None, refs))
        if path and not {".", ".."} & set(refs):
            return f"runs:/{name}/{path}", f"runs:{name}", path
    elif scheme == "models" and len(refs) == 1 and _is_name(name):
        ref = refs[0]
        if re.fullmatch(r"\d+", ref, re.ASCII):
            if 1 <= int(ref) <= _MAX_VERSION:
                return f"models:/{name}/{int(ref)}", name, str(int(ref))
        elif not _is_blank(ref):
            ref = {known.lower(): known for known in _FIXED_REFS}.get(ref.lower(), ref)
            return f"models:/{name}/{ref}", name, ref if ref in _FIXED_REFS else f"stage:{ref}"
    elif scheme == "models" and not refs and "@" in name:
        name, _, alias = name.rpartition("@")
        if _is_name(name) and not _is_blank(alias):
            return f"models:/{name}@{alias}", name, f"@{alias}"
    elif scheme == "models" and not refs and re.fullmatch(r"m-[\w-]{1,250}", name, re.ASCII):
        return f"models:/{name}", name, "logged"
    raise _NotPublished(f"{uri!r} is not a model URI.")


def _is_plain(uri: str) -> bool:
    try:
        return len(uri.encode()) <= 800 and not re.search(r"[\x00-\x1f\x7f-\x9f]", uri)
    except UnicodeEncodeError:  # Half a character.
        return False


def _is_name(name: str) -> bool:
    # The limit is of 500 UTF-16 units.
    return not (_is_blank(name) or ":" in name or name in (".", "..") or len(name.encode("utf-16-le")) > 1000)


def _is_blank(text: str) -> bool:
    return not text.replace("\ufeff", " ").strip()


def _file_name(name: str, letters: bytes) -> str:
    at = "@" if name.startswith("@") else ""
    text = re.sub(rb"[^" + letters + rb"0-9_.-]", lambda byte: b"%%%02X" % ord(byte[0]), name[len(at) :].encode()).decode()
    encoded = at + re.sub(r"^\.", "%2E", text)
    return encoded if len(encoded) <= 200 else f"{encoded[:100]}~{hashlib.sha256(name.encode()).hexdigest()}"
