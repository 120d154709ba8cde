"""The entities of the demo: airlines, airports, planes, the weather, and the flights that tie them together.

Declare once, bind later: the database is named when the program starts (``db.bind(url)``).
``class Airline(Entity, db=db)`` and ``class Airline(db.Entity)`` mean the same; the first form is
the one that every type checker understands.
"""

from __future__ import annotations

from datetime import date, datetime, time

from dbsession import Database, Entity, Optional, PrimaryKey, Required, Set, composite_key

__all__ = ["Airline", "Airport", "Flight", "Plane", "Weather", "db"]

db = Database()


class Airline(Entity, db=db):
    """A carrier. Its two-letter code is its key, so no number has to be made up for it."""

    code = PrimaryKey(str, 2)
    name = Required(str)
    flights = Set("Flight")


class Airport(Entity, db=db):
    """A place to fly from and to."""

    code = PrimaryKey(str, 3)
    name = Required(str)
    latitude = Required(float)
    longitude = Required(float)
    altitude = Required(int)
    utc_offset = Required(int)
    dst = Required(str, 1)
    zone = Optional(str)
    # Flight has two references to Airport: `reverse` says which of them each collection answers to.
    departures = Set("Flight", reverse="origin")
    arrivals = Set("Flight", reverse="destination")
    weather = Set("Weather")


class Plane(Entity, db=db):
    """An aircraft, by its tail number."""

    tail_number = PrimaryKey(str, 6)
    built = Optional(int)
    kind = Required(str)
    manufacturer = Required(str)
    model = Required(str)
    engines = Required(int)
    seats = Required(int)
    speed = Optional(int)
    engine = Required(str)
    flights = Set("Flight")


class Weather(Entity, db=db):
    """What one airport measured in one hour.

    The key is a reference and an instant. Local time (year, month, day, hour) would not do: when
    the clocks went back on 3 November 2013, the hour after 1:00 passed twice, and each of the
    three airports reported both. In UTC the two are 05:00 and 06:00, so all rows have a place.
    """

    airport = Required(Airport)
    hour = Required(datetime, tz=True)  # aware, kept in UTC
    PrimaryKey(airport, hour)
    local_hour = Required(datetime)  # naive: what the clock on the wall showed
    temperature = Optional(float)
    dew_point = Optional(float)
    humidity = Optional(float)
    wind_direction = Optional(int)
    wind_speed = Optional(float)
    wind_gust = Optional(float)
    precipitation = Required(float)
    pressure = Optional(float)
    visibility = Required(float)


class Flight(Entity, db=db):
    """One departure. It has no key of its own, so the implicit ``id`` numbers it."""

    airline = Required(Airline)
    number = Required(int)
    hour = Required(datetime, tz=True)  # of the scheduled departure, as in Weather
    composite_key(airline, number, hour)  # how people name a flight; unique in the database
    plane = Optional(Plane)  # NULL where the data has no tail number
    origin = Required(Airport, reverse="departures")
    destination = Required(Airport, reverse="arrivals")
    day = Required(date)
    scheduled_departure = Required(time)
    departure = Optional(time)  # NULL: cancelled
    departure_delay = Optional(int)  # minutes, negative if early
    scheduled_arrival = Required(time)
    arrival = Optional(time)
    arrival_delay = Optional(int)
    air_time = Optional(int)
    distance = Required(int)
