"""What an airline office does all day: look a flight up, move it to another plane, report delays.

Each function opens its own scope and gets its own session; what it changed is committed when it
returns, and has not happened if it raises.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Barrier, Lock

from flights_model import Flight, Plane, Weather

from dbsession import OptimisticCheckError, avg, count, db_session, select

__all__ = ["FIRST_FLIGHT", "Delay", "Departure", "FlightName", "busiest_routes", "delays", "look_up", "move"]


@dataclass(frozen=True)
class FlightName:
    """How people name a flight: the airline, its number, and the hour of departure."""

    airline: str
    number: int
    hour: datetime

    def __str__(self) -> str:
        """Return what a passenger would say."""
        return f"{self.airline} {self.number} on {self.hour:%d %B %Y}"


FIRST_FLIGHT = FlightName("UA", 1545, datetime(2013, 1, 1, 10, tzinfo=UTC))
"""The first row of the data, so that it is there whatever the limit."""


@dataclass(frozen=True)
class Departure:
    """What the office shows of a flight."""

    airline: str
    route: str
    plane: str | None
    delay: int | None
    wind: float | None


def find(name: FlightName) -> Flight:
    """Return the flight of *name*, in the scope of the caller.

    A reference is compared with an object or with its key; all three attributes together are a
    unique key of Flight, so at most one row fits.
    """
    flight = Flight.get(airline=name.airline, number=name.number, hour=name.hour)
    if flight is None:
        raise LookupError(f"there is no flight {name}")
    return flight


@db_session
def look_up(name: FlightName) -> Departure:
    """Return what is to be known of a flight: relations are followed by reading them."""
    flight = find(name)
    weather = Weather.get(airport=flight.origin, hour=flight.hour)
    return Departure(
        airline=flight.airline.name,
        route=f"{flight.origin.name} to {flight.destination.name}",
        plane=None if flight.plane is None else flight.plane.tail_number,
        delay=flight.departure_delay,
        wind=None if weather is None else weather.wind_speed,
    )


@db_session
def busiest_routes(number: int) -> list[tuple[str, str, int, float | None]]:
    """Return the routes with the most flights, how many there were, and how many minutes late they left.

    The query is an expression of Python over all flights, and the database answers it: count() and
    avg() make a group of each pair of airports.
    """
    routes = select(
        (flight.origin.name, flight.destination.name, count(), avg(flight.departure_delay))
        for flight in Flight
        if flight.departure is not None
    )
    return routes.order_by(-3)[:number]


@db_session
def move(name: FlightName, tail_number: str) -> None:
    """Let another plane fly. Assigning the reference is all; the UPDATE goes with the commit.

    Raises:
        ObjectNotFound: there is no plane of that tail number; the flight keeps the one it has.
    """
    find(name).plane = Plane[tail_number]


@dataclass(frozen=True)
class Delay:
    """What came of two people who reported a delay at the same time."""

    runs: int
    before: int
    after: int


def delays(name: FlightName, first: int, second: int) -> Delay:
    """Let two threads add minutes to the delay of the same flight at the same moment.

    The barrier makes the worst case certain: both have read the flight and both have changed it
    before either commits. The one that commits second would overwrite the minutes of the other;
    the UPDATE says which value it replaces, matches no row, and OptimisticCheckError is raised
    instead. `retry` then runs the function again, with a fresh session that sees the new value.
    No other error is retried here, so every run beyond two stands for one such conflict.
    """
    both_have_changed = Barrier(2)
    lock = Lock()
    runs: list[int] = []

    @db_session(retry=3, retry_exceptions=(OptimisticCheckError,))
    def add(minutes: int) -> None:
        with lock:
            first_run = minutes not in runs
            runs.append(minutes)
        flight = find(name)
        flight.departure_delay = (flight.departure_delay or 0) + minutes
        if first_run:
            both_have_changed.wait(timeout=60)

    before = look_up(name).delay
    with ThreadPoolExecutor(max_workers=2) as threads:
        list(threads.map(add, (first, second)))  # list() raises what a thread raised
    after = look_up(name).delay
    return Delay(runs=len(runs), before=before or 0, after=after or 0)
