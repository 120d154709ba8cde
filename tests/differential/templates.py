"""What the grammar writes: constants and templates of each type, the simplest first.

A field in braces stands for an expression of that type, or for what the method of that name writes (see
`grammar`); with a star it has a variable of the query in it. « and » are braces of an f-string.
"""

from __future__ import annotations

__all__ = ["COMPARED", "CONSTANTS", "DOCUMENTS", "JSON", "LETTERS", "ORDERED", "TEMPLATES"]

LETTERS = {
    "Company": "c", "User": "u", "Manager": "m", "Chief": "k", "Order": "o", "Product": "p", "Tag": "t",
    "Category": "g", "Seat": "s", "Booking": "b",
}  # fmt: skip

CONSTANTS = {
    "int": ["0", "1", "3", "7", "17", "40", "-1", "100", "THREE", "box.three"],
    "float": ["0.0", "2.5", "0.25", "-1.5", "100.0", "box.half"],
    "decimal": ['Decimal("0")', 'Decimal("21.19")', 'Decimal("1.2")', 'Decimal("-5.00")', 'Decimal("1000.5")'],
    "text": ['""', '"Ann"', '"a"', '"x"', '"%"', '"open"', '"_"', '"it\'s"', '"\\\\"', '"ö"', '" "', "box.name"],
    "bool": ["True", "False"],
    "date": ["date(2026, 3, 1)", "date(1999, 12, 31)", "date(2024, 2, 29)", "box.day"],
    "datetime": ["datetime(2026, 3, 1)", "datetime(2024, 2, 29, 6, 7, 8)", "datetime(1999, 12, 31, 23)"],
    "delta": ["timedelta(0)", "timedelta(1)", "timedelta(0, 5400)", "timedelta(-2)", "timedelta(0, 28800)"],
    "level": ["Level.LOW", "Level.MID", "Level.HIGH"],
}

TEMPLATES = {
    "int": [
        "-{int}", "({int} + {int})", "({int} - {int})", "({int} * {int})", "abs({int})", "len({text})",
        "count({objects})", "len({collection})", "({int} // {divisor})", "({int} % {divisor})", "({int} ** 2)",
        "sum({ints})", "min({ints})", "max({ints})", "min({int}, {int})", "max({int}, {int}, {int})",
        "({int} if {condition} else {int})", "coalesce({int}, {int})", "{date}.year", "{date}.month", "{date}.day",
        "{datetime}.year", "{datetime}.hour", "{datetime}.minute", "{datetime}.second", "int({float})",
        "count({values})", "round({float})", "({int} or {int})",
        "({int} and {int})", "{date}.weekday()", "{delta}.days", "{datetime}.microsecond", "sum({conditions})",
        "count(distinct({values}))", "sum(distinct({ints}))",
    ],
    "float": [
        "-{float}", "({float} + {float})", "({float} - {float})", "({float} * {float})", "({int} / {divisor})",
        "({float} / {divisor})", "abs({float})", "float({int})", "avg({ints})", "avg({floats})", "avg({decimals})",
        "sum({floats})", "min({floats})", "max({floats})", "({int} * {float})", "({float} + {int})",
        "({float} if {condition} else {float})", "coalesce({float}, {float})", "min({float}, {float})",
        "({float} ** 2)", "round({float}, 1)", "{delta}.total_seconds()",
        "({float} // {divisor})", "({float} % {divisor})", "({float} % 0.75)",
    ],
    "decimal": [
        "-{decimal}", "({decimal} + {decimal})", "({decimal} - {decimal})", "({decimal} * {decimal})",
        "({decimal} * {int})", "({int} + {decimal})", "abs({decimal})", "sum({decimals})", "min({decimals})",
        "max({decimals})", "({decimal} if {condition} else {decimal})", "coalesce({decimal}, {decimal})",
        "max({decimal}, {decimal})", "round({decimal}, 1)",
        "({decimal} // {divisor})", "({decimal} % {divisor})", '({decimal} % Decimal("0.7"))',
    ],
    "text": [
        "({text} + {text})", "{text}.upper()", "{text}.lower()", "{text}.strip()", "{text}.lstrip()",
        "{text}.rstrip()", "{text}[{bound}:]", "{text}[:{bound}]", "{text}[{bound}:{bound}]", "str({int})",
        'f"«{text_path}»-«{int_path}»"', 'f"<«{text_path}»>"', "concat({text}, {text}, {int})", "coalesce({text}, {text})",
        "({text} if {condition} else {text})", "min({texts})", "max({texts})", "min({text}, {text})",
        "{user}.label", '{text}.strip("xA")', "{text}[0]", "{text}[-1]",
        "({text} or {text})", "str({bool_path})", "str({decimal_path})", "str({date})",
        'f"«{date_path}»"', '({text_path} or "none")',
    ],
    "date": [
        "({date} + timedelta(1))", "({date} - timedelta(31))", "{datetime}.date()", "min({dates})", "max({dates})",
        "coalesce({date}, {date})", "({date} if {condition} else {date})",
        "min({date}, {date})",
    ],
    "datetime": [
        "({datetime} + {delta})", "({datetime} - {delta})", "min({datetimes})", "max({datetimes})",
        "coalesce({datetime}, {datetime})", "({datetime} if {condition} else {datetime})",
    ],
    "delta": [
        "({delta} + {delta})", "({delta} - {delta})", "({datetime} - {datetime})", "({date} - {date})", "-{delta}",
        "({delta} * 2)", "coalesce({delta}, {delta})", "({delta} if {condition} else {delta})",
        "min({deltas})", "max({deltas})",
    ],
    "level": ["coalesce({level}, {level})", "({level} if {condition} else {level})"],
    "bool": ["coalesce({bool}, {bool})", "({bool} if {condition} else {bool})"],
    "condition": [
        "{same}", "{truth}", "not {condition}", "({condition} and {condition})", "({condition} or {condition})",
        "{*any} is None", "{*any} is not None", "{*any} == None", "{*any} != None", "{equal_parameter}",
        "{*int} < {int} <= {int}", "{*decimal} > {int}", "{*int} <= {float}", "{listed}", "{listed_parameter}",
        "{*text}.startswith({text})", "{*text}.endswith({text})", "{*text} in {text}", "{*text} not in {text}",
        "exists({objects})", "between({*int}, {int}, {int})", "between({*date}, {date}, {date})", "{same_object}",
        "{in_collection}", "{in_values}", "isinstance({user}, {subclass})", "{user}.older_than({int})",
        "({condition} if {condition} else {condition})", "{json}", "{in_query}", "not ({condition})",
        "any({conditions})", "all({conditions})", "{collection}", "not {collection}", "{*int} == {decimal}",
        "{*int} in ({decimal}, {int})", "{*decimal} in ({int}, {int})", "{*float} in ({int}, {float})", "{*int} != {float}",
        '{*text}.startswith(("A", "b"))', '{*text}.endswith(("g", ""))', "{in_query_of_class}", "{*int} in ({extreme})",
    ],
}  # fmt: skip


DOCUMENTS = [
    "{user}.data", '{user}.data["deep"]', '{user}.data["tags"]', '{user}.data["n"]', '{user}.data["s"]',
    '{user}.data["deep"]["k"]', '{user}.data["tags"][0]', '{user}.data.get("s")',
]  # fmt: skip

JSON = [
    '{user}.data["n"] == {int}', '{user}.data["n"] > {int}', '{user}.data["s"] == {text}', '{user}.data["s"]',
    '{user}.data["deep"]["k"] == {text}', '{user}.data["deep"]["n"] != {int}', '{user}.data["n"] is None',
    '{user}.data["tags"][0] == {text}', '{user}.data["flag"]', '"n" in {user}.data', "{user}.data is None",
    '{text} in {user}.data["tags"]', '{user}.data.get("s", "none") == {text}', '{user}.data["n"] + {int} > {int}',
    'len({user}.data["tags"]) > 1', '{user}.data["s"].upper() == "RED"', '{user}.data["flag"] == True',
    'int({user}.data["n"]) == {int}', '{user}.data["s"] in ("red", {text})', "{text_key} in {user}.data",
    '{user}.data["n"] == {user}.data["deep"]["n"]', "{user}.data[{text_key}] is not None",
]  # fmt: skip

COMPARED = ["int", "text", "decimal", "date", "float", "datetime", "delta", "level", "bool"]
ORDERED = ["==", "!=", "<", "<=", ">", ">="]
