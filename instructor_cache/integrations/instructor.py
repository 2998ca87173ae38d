"""instructor's clients as a whole: every call cached, or our backends as its own cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar, cast

from .._modes import mode
from .._stand_in import refuse_uncached
from ..decorator import instructor_cache
from ..errors import CacheMiss
from ..events import Observer
from ..lifetimes import TTL, Lifetime
from ..tiers import BackendLike
from ._client import ClientCache
from ._functions import Functions
from ._given import check
from ._native import native_cache
from ._request import Reader, taken_of

__all__ = ["ClientCache", "RedisCache", "cache_client", "for_instructor"]

C = TypeVar("C")

_UNCACHED = "answers of that response_model can't be cached"


def cache_client(
    client: C,
    backend: BackendLike | None = None,
    *,
    ttl: TTL = None,
    namespace: str | None = None,
    **options: Any,
) -> C:
    """Give an instructor client like *client*, which asks the same question only once.

    All its methods are cached, by `instructor_cache` itself, whose *options* it takes. *client*
    stays as it is. On the new one, ``client.cache`` has `cache_info` and `cache_clear`.

    What may change an answer is part of its key: messages, context, model, response model, strict,
    mode, provider, endpoint, and every other argument, such as ``temperature``, ``store`` or
    ``metadata``; ``ignore=("metadata",)`` leaves some out. What can't is not: ``max_retries``,
    ``token_budget``, ``timeout``, ``hooks``, ``user``, ``safety_identifier``, the hints for the
    provider's prompt cache, and headers for tracing, which are known by their names. The order of
    dicts counts, for templates loop over them. What is asked is what was given at the call, and on
    the account that the client had then: if that changes meanwhile nothing is stored. Validators
    see a copy of the context: what they write to it is lost, and on a hit none runs. Where there is
    nothing to keep, a call goes through: a raw stream, which has no response model, and several
    tools at once on async clients. In offline mode that raises `CacheMiss`.

    What a function that instructor was given has captured, or reads of modules, counts too:
    clients, settings, code. Of litellm's functions it is the settings in its module, such as
    ``litellm.api_base``, and variables such as ``OPENAI_BASE_URL``; its credentials only count
    where a call brings them as ``api_key=``. Where endpoint, model and settings can't be read, as
    in a method of litellm's router, or a client that is taken from a dict, the call is not cached,
    whatever the namespace, and a warning says so, once.

    On a hit instructor's hooks hear ``completion:kwargs``, with the arguments as they were given,
    and ``completion:response``, a copy of the completion whose usage is zero, where the answer has
    kept one (streams and simple types have not); not ``completion:usage``. So what adds up tokens
    counts each once, while the answer's own ``_raw_response`` tells the true usage.

    Args:
        client: What ``instructor.from_provider``, ``from_openai`` and their like give.
        backend: As for `instructor_cache`.
        ttl: As for `instructor_cache`; ``cache_ttl=`` in a call counts instead for its answer.
        namespace: Names those who may share answers. It takes the place of the credentials and of
            what else chooses the account: organization, project, and headers, arguments and
            cookies that are credentials. Every other header and argument counts all the same,
            however secret its name sounds. None keeps answers to the account of the client, by a
            digest that can't be turned back into it. Clients whose credentials can't be read are
            then not cached: those that make tokens when needed, whose HTTP client has hooks, an
            auth or a transport of its own, and subclasses that override what makes requests.
        options: The other options of `instructor_cache`, except those that a client decides.

    Raises:
        TypeError: *client* is none of instructor's, or an option is not one of these.
        ValueError: *client* is cached already, or an option is wrong.
    """
    check(client, namespace, options)
    given: Any = client
    twin = _copy(given)
    ignore = options.pop("ignore", ())
    if not isinstance(ignore, str):  # which the decorator refuses
        ignore = ("_question", *ignore)

    def decorate(returns: Any, own: float | None) -> Any:
        life: TTL = ttl if own is None else partial(_same, own)  # a tier's ttl may be above it
        return instructor_cache(backend, ttl=life, returns=returns, ignore=ignore, **options)

    reader = Reader(twin, given.create_fn, namespace)
    twin.cache = ClientCache(reader, Functions(reader, decorate, options.get("observer")))
    twin.create_fn = (_async_create if reader.is_async else _create)(reader.create, twin.cache)
    return twin  # type: ignore[no-any-return]


def _same(seconds: float, _answer: Any) -> float:
    return seconds


def _create(create: Any, cache: ClientCache) -> Any:
    @wraps(create)
    def cached_create(*args: Any, **kwargs: Any) -> Any:
        question = None if args else cache.question(kwargs)
        if question is None:
            _refuse_offline()
        return create(*args, **taken_of(kwargs)) if question is None else question.put()

    return cached_create


def _async_create(create: Any, cache: ClientCache) -> Any:
    @wraps(create)
    async def cached_create(*args: Any, **kwargs: Any) -> Any:
        question = None if args else cache.question(kwargs)
        if question is None:
            _refuse_offline()
        given = taken_of(kwargs)
        return await (create(*args, **given) if question is None else question.put_later())

    return cached_create


def _refuse_offline() -> None:
    """Raise CacheMiss where a call that nothing can keep must not be made."""
    refuse_uncached("instructor.create", _UNCACHED)
    if mode() == "offline":
        raise CacheMiss(
            f"found a call of instructor.create that can't be cached ({_UNCACHED}), so it is not "
            f"made in offline mode; ask for an answer that can be kept, or ask without that mode",
            "instructor.create",
        )


def _copy(client: Any) -> Any:
    """A client of the same class, with hooks, arguments and ``responses`` of its own."""
    twin, held = _shallow(client), cast("dict[str, Any]", vars(client))
    twin.kwargs, twin.hooks = dict(client.kwargs), _shallow(client.hooks)
    twin.hooks._handlers = type(client.hooks._handlers)(list)
    for hook, handlers in client.hooks._handlers.items():
        twin.hooks._handlers[hook].extend(handlers)
    if "responses" in held:
        twin.responses = _shallow(held["responses"])
        twin.responses.client = twin
    return twin


def _shallow(thing: Any) -> Any:
    """A copy as of `copy.copy`, which a client's own ``__getattr__`` would lead astray."""
    twin: Any = object.__new__(thing.__class__)
    twin.__dict__.update(thing.__dict__)
    return twin


def for_instructor(
    backend: BackendLike,
    *,
    namespace: str | None = None,
    ttl: Lifetime = None,
    prefix: str = "instructor",
    timeout: float | None = None,
    observer: Observer | None = None,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Give what makes *backend* instructor's own cache: ``from_provider(model, **these)``.

    A backend itself as ``cache=`` is passed over by instructor, in silence. This cache knows
    ``create`` and ``create_with_completion`` with a model for an answer, and nothing else;
    `cache_client` caches all methods. Its keys tell accounts apart in some modes only: give each
    tenant a *namespace* of its own. Clients of ``from_anthropic`` never look into a cache, whosever
    it is: with these, use `cache_client`.

    Args:
        backend: As for `instructor_cache`.
        namespace: Names those who may share answers. None keeps them to one client object: then
            nothing outlives it.
        ttl: How long an answer is fresh, in any form that `instructor_cache` reads but a callable;
            ``cache_ttl=`` in a call counts instead, in whole seconds: instructor drops all else.
        prefix: First part of every key.
        timeout: Seconds that one operation of the backend may take.
        observer: Called with every `Event`.
        clock: Seconds since the epoch; for tests.

    Raises:
        ImportError: This instructor is so old that it has no cache of its own.
        ValueError, TypeError: An option is wrong, or the backend can't be used by sync callers.
    """
    if namespace is not None and (not isinstance(namespace, str) or not namespace):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"namespace is {namespace!r}; it must be text, or None")
    cache = native_cache(
        backend,
        namespace=namespace,
        ttl=ttl,
        prefix=prefix,
        timeout=timeout,
        observer=observer,
        clock=clock,
    )
    return {"cache": cache} if namespace is None else {"cache": cache, "cache_namespace": namespace}


def RedisCache(  # noqa: N802
    redis_url: str = "redis://localhost:6379/0", ttl: Lifetime = None, **options: Any
) -> Any:
    """Give the ``RedisCache`` that instructor's guide imports, for ``from_provider(cache=...)``.

    *options* are those of `for_instructor`. With nothing but ``cache=`` instructor keeps answers to
    one client object; ``cache_namespace=`` beside it lets processes share them.
    """
    return for_instructor(redis_url, ttl=ttl, **options)["cache"]
