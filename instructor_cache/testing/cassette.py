"""The answers of one test in a file: recorded once, played ever after."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args
from warnings import warn

from .._pen import Style
from .._sketch import sketch
from .._stand_in import StandIn, standing_in
from ..codecs._compare import difference
from ..protocols import Codec
from ._blocks import shown
from ._file import CassetteFile
from ._hand import unknown
from ._leaks import leak, named, without
from ._page import Block, BrokenCassette, Page
from ._tape import CassetteWarning, Tape
from ._texts import gather, write
from ._warnings import change, loss, refusal

__all__ = ["BrokenCassette", "Cassette", "CassetteWarning", "Mode"]

Mode = Literal["once", "none", "all"]

_ANEW = 'take Cassette(path, "all"), which calls the functions'


# A cassette is reviewed by people, and in time: it may show more than an entry that is stored.
_STYLE = Style(longest=(2_000, 600, 200), part=20_000, room=20_000, whole=100_000, hide=without)
_sketched = partial(sketch, style=_STYLE)


class Cassette:
    """What cached functions answer in a test, kept in a file that people read and review.

    It counts in all threads of its process. One that is forked meanwhile plays what was there
    then, and a warning says that its own answers are not recorded; one that is spawned knows
    nothing of it, and calls, unless ``INSTRUCTOR_CACHE_MODE`` is offline.

    In the file an answer may be corrected; "call" is for reading only, for a key says which call
    it is.

    Args:
        path: The file; beside a test, `path_beside` says which.
        mode: "once" records if there is no file, and else plays it: a call that is not in it
            raises `CacheMiss`. "none" never calls a function while it is in use, not even without
            a file. "all" records everything anew.
        anew: What somebody does to record it anew, as errors say it.

    Attributes:
        played: How many answers came from the cassette.
    """

    def __init__(self, path: Path | str, mode: Mode = "once", *, anew: str = _ANEW) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f'found the mode {mode!r}; it must be "once", "none" or "all"')
        self.path, self.mode, self._anew = Path(path), mode, anew
        self._file = CassetteFile(self.path)
        self._losses: dict[str, Callable[[], str]] = {}
        self._before = self._read()
        self._decoders: dict[str, Callable[[bytes], Any]] = {}
        self.is_recording = mode == "all" or (mode == "once" and not self._is_finished())
        blocks = self._before.blocks if self._before and mode != "all" else {}
        self._tape = Tape(blocks, is_final=not self.is_recording, refuse=_leak_in)

    def __repr__(self) -> str:
        counts = f"played={self.played}, recorded={self.recorded}"
        return f"Cassette({str(self.path)!r}, mode={self.mode!r}, {counts})"

    @property
    def played(self) -> int:
        return self._tape.played

    @property
    def recorded(self) -> int:
        """How many answers are new in it."""
        return len(self._tape.recorded)

    @contextmanager
    def playing(self) -> Generator[Cassette]:
        """Have every cached function of the process use it, and write the file at the end.

        If the block raises, what was recorded until then is kept and marked as incomplete: the
        next time, mode "once" plays it and records the rest.
        """
        try:
            with self.standing_in():
                yield self
        except BaseException:
            self.save(is_complete=False)
            raise
        self.save()

    def standing_in(self) -> AbstractContextManager[object]:
        """Have every cached function of the process use it until the end of the block."""
        is_final = not self.is_recording
        what = "played from" if is_final else "recorded in"
        why = f"while its answers are {what} {self._file.near}"
        if is_final and self._before is None:
            why = f"in mode none, and there is no {self._file.near} (was the test renamed?)"
        return standing_in(
            StandIn(
                self._tape,
                "cassette",
                is_final,
                why,
                self._remedy,
                self._check,
                _sketched,
                self._losses,
            )
        )

    def _remedy(self, key: str | None) -> str:
        if self._before is None:
            return 'to record it, run it in mode "once"'
        lost = self._before.lost
        if key is not None and (reason := lost.get(str(key))) is not None:
            return (
                f"when it was recorded this call {reason}, and that is not kept: test it without "
                f"the cassette, or give it its answer in the test, with cache_set"
            )
        moved = "" if key is None else self._tape.moved(str(key))
        hint = f"it holds this call of {moved}: was a module renamed or moved? " if moved else ""
        return f"{hint}to record the test anew, {self._anew}"

    def _check(self, key: str, codec: Codec) -> None:
        """Raise an error for an answer that was written by hand and can't be given."""
        self._decoders[key] = codec.decode
        if (block := self._tape.blocks.get(key)) is None:
            return
        if (reason := _reason(codec, block.payload)) is not None:
            raise BrokenCassette(
                f"{self._file.near}: found an answer of {block.function} that does not fit its "
                f"type, above the key {key}; correct it, or, to record it anew, {self._anew}: "
                f"{reason}"
            ) from None

    def save(self, *, is_complete: bool = True) -> None:
        """Write the file, if there is anything new to write."""
        if not self.is_recording or not (self.recorded or is_complete):
            return
        losses = dict(self._losses)  # first: threads may go on, and what is lost may be recorded
        recorded, refused, replaced = self._tape.taken()
        known = self._tape.blocks.keys() | recorded.keys() | refused.keys()
        lost = {key: why() for key, why in losses.items() if key not in known}
        if recorded or self.path.exists():
            tellable = {key: why for key, why in lost.items() if not leak(key)}
            page = Page(self._blocks(recorded, is_complete), is_complete, tellable)
            self._write(page, recorded)
        told = [refusal(self.path, key, reason) for key, reason in refused.items()]
        if lost and is_complete:
            told.append(loss(self.path, lost))
        if is_complete and (others := self._changed(recorded, replaced)):
            told.append(change(self.path, others))
        for text in told:
            warn(text, CassetteWarning, stacklevel=2)

    def _changed(self, recorded: dict[str, Block], replaced: list[Block]) -> set[str]:
        """The keys of calls, not of what the test has set, that had another answer before."""
        called = [block for block in replaced if block.key in self._losses]
        return {b.key for b in called if self._alike(recorded[b.key], b) is not b}

    def _write(self, page: Page, recorded: dict[str, Block]) -> None:
        try:
            self._file.write(lambda news: page if news is None else page.joined(news, recorded))
        except OSError as error:
            names = ", ".join(sorted({block.function for block in recorded.values()}))
            raise OSError(
                error.errno,
                f"{self._file.near}: found that it can't be written ({error.strerror}), so new "
                f"answers of {names or 'no function'} are not kept; wanted a folder to write to: "
                f'make it writable, or play only, in mode "none"',
            ) from error

    def _blocks(self, recorded: dict[str, Block], is_complete: bool) -> dict[str, Block]:
        """What to write: of answers that are as good as those before, the ones before."""
        before = self._before.blocks if self._before else {}
        if is_complete and not self._is_finished():  # what failed attempts alone have asked
            before = {key: block for key, block in before.items() if key in self._tape.used}
        new = {key: self._settled(block) for key, block in recorded.items()}
        return new if self.mode == "all" and is_complete else before | new

    def _settled(self, block: Block) -> Block:
        before = None if self._before is None else self._before.blocks.get(block.key)
        return block if before is None else self._alike(block, before)

    def _alike(self, block: Block, before: Block) -> Block:
        """The block as it was before, if it says the same: that of a set, say, in another order."""
        if (decode := self._decoders.get(block.key)) is None:
            return block
        (line, *rest), (line_before, *_) = (b.payload.split(b"\n") for b in (block, before))
        with suppress(Exception):  # of what was written by hand
            if difference(decode(line), decode(line_before)) is None:
                line = line_before
        alike = replace(block, payload=b"\n".join([line, *rest]))
        return before if alike.says_as_much_as(before) else block

    def _is_finished(self) -> bool:
        return self._before is not None and self._before.is_complete

    def _read(self) -> Page | None:
        try:
            return self._file.read()
        except FileNotFoundError:
            return None
        except BrokenCassette as error:
            if self.mode != "all":
                raise BrokenCassette(f"{error}; to record it anew, {self._anew}") from None
            return None
        except OSError as error:
            found = "a directory" if self.path.is_dir() else f"what can't be read ({error})"
            raise BrokenCassette(
                f"{self._file.near}: found {found}, wanted a file; move it out of the way"
            ) from None


def _reason(codec: Codec, payload: bytes) -> BaseException | str | None:
    """What is wrong with a payload: with its first line if it is that, else with the others.

    A line alone says nothing where the others fill in what it lacks: a provider's completion.
    """
    if (failure := _failure(codec, payload)) is not None:
        return _failure(codec, payload.partition(b"\n")[0]) or failure
    if names := unknown(codec, payload):
        return f"it has {', '.join(names)}, which the type has not"
    return None


def _failure(codec: Codec, payload: bytes) -> BaseException | None:
    try:
        codec.decode(payload)
    except Exception as error:
        return error.__context__ or error
    return None


def _leak_in(block: Block) -> str:
    text = leak(block.payload.decode("utf-8", "replace")) or leak(write(block.members()))
    return text or named(gather(shown(block.payload)))
