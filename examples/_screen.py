"""What the demo looks like: a table that fills while it works, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from demo import Result
    from typing_extensions import Self

_BAR = 10
_HEADINGS = ("", "", "hits", "misses", "time", "saved", "paid", "saved")
_WIDTHS = (16, _BAR, 4, 6, 6, 6, 7, 7)  # at least, so that the table stays still while it fills


@dataclass
class Row:
    """One pass: how far it is, and its result when it has one."""

    name: str
    done: int = 0
    result: Result | None = None

    def cells(self, total: int) -> list[Any]:
        """Give what the table shows of it."""
        if (r := self.result) is None:
            return [self.name, _bar(self.done / total, "cyan")]
        bar = _bar(1, "green" if r.hits else "yellow")
        counts = Text(f"{r.hits}", "green"), Text(f"{r.misses}", "yellow")
        times = _seconds(r.seconds), _seconds(r.seconds_saved)
        return [self.name, bar, *counts, *times, _dollars(r.dollars), _dollars(r.dollars_saved)]


class Screen:
    """The table as it fills; a context manager. Without a terminal it is printed at the end."""

    def __init__(self, title: str, passes: Sequence[str], total: int) -> None:
        self._title, self._total = title, total
        self._rows = {name: Row(name) for name in passes}
        self._latest = ""
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=20)

    def __enter__(self) -> Self:
        self._console.print()
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self._console.print("\n" * (not self._console.is_terminal))

    def run(self, name: str, read: Callable[[Callable[[str], None]], Result]) -> Result:
        """Show the pass *name* while *read* does it, then its result."""
        row = self._rows[name]
        if not self._console.is_terminal:
            self._console.print(f"  reading {self._total} passages {name} ...")

        def told(answer: str) -> None:
            row.done += 1
            self._latest = answer

        row.result = read(told)
        return row.result

    def conclude(self, results: Sequence[Result], wrong: Sequence[str]) -> None:
        """Print what came of it."""
        lines = [f"[red]✗[/] {sentence}" for sentence in wrong] or _good_news(results, self._total)
        self._console.print(Padding("\n".join(lines), (0, 0, 1, 2), expand=False))

    def _render(self) -> Padding:
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
        for heading, width in zip(_HEADINGS, _WIDTHS, strict=True):
            justify = "right" if heading else "left"
            table.add_column(heading, justify=justify, min_width=width, no_wrap=True)
        for row in self._rows.values():
            table.add_row(*row.cells(self._total))
        latest = Text(f"last read: {self._latest}", "dim", overflow="ellipsis", no_wrap=True)
        return Padding(
            Group(Text(self._title), Text(), table, Text(), latest), (0, 0, 0, 2), expand=False
        )


def _good_news(results: Sequence[Result], total: int) -> list[str]:
    first, again, *_ = results
    hits = sum(result.hits for result in results)
    seconds = sum(result.seconds_saved for result in results)
    dollars = sum(result.dollars_saved for result in results)
    asked, found = (1000 * result.seconds / total for result in (first, again))
    answers = f"{hits} of {total * len(results)} answers came from the cache"
    times = f"An answer took {asked:.0f} ms to buy and {found:.2f} ms to remember"
    return [
        f"[green]✓[/] [bold]{answers}: {seconds:.1f} seconds and ${dollars:.4f} saved.[/]",
        f"  {times}, {asked / found:,.0f} times less.",
    ]


def _bar(share: float, colour: str) -> Text:
    full = round(share * _BAR)
    return Text("━" * full, colour) + Text("━" * (_BAR - full), "bright_black")


def _seconds(seconds: float) -> Text:
    if not seconds:
        return Text("·", "dim")
    return Text(f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms")


def _dollars(dollars: float) -> Text:
    return Text(f"${dollars:.4f}") if dollars else Text("·", "dim")
