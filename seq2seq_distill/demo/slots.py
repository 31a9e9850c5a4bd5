"""Values for the slots of the translation data: one meaning, written in English and in German.

Names, units, currencies and formats are CLDR's (through Babel). Values that can be composed (numbers, dates, times,
amounts), and a few names, are marked as held out.
"""

import datetime
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from babel import dates, lists, numbers, units

from seq2seq_distill.demo.cldr import (
    CITIES,
    COUNTRIES,
    CURRENCIES,
    DE,
    EN,
    EVERYDAY_UNITS,
    LANDS,
    LANGUAGES,
    UNITS,
    ZONES,
)
from seq2seq_distill.demo.grammar import Value, held_out, noun_phrase, ordinal, spell_english, spell_german
from seq2seq_distill.demo.lexicon import COUNTRIES_WITH_ARTICLE, ENGLISH_ARTICLE, ITEMS, NOUNS, PEOPLE

HELD_NAMES_SHARE = 0.03


_DURATIONS = (  # English singular, German plural: nominative and accusative, dative
    ("second", "Sekunden", "Sekunden"),
    ("minute", "Minuten", "Minuten"),
    ("hour", "Stunden", "Stunden"),
    ("day", "Tage", "Tagen"),
    ("week", "Wochen", "Wochen"),
    ("month", "Monate", "Monaten"),
    ("year", "Jahre", "Jahren"),
)


def _pick(draw: random.Random, items: Sequence[Any]) -> Any:
    """One of the items, the first ones more often: names of the world have a long tail."""
    return items[int(len(items) * draw.random() ** 1.7)]


def _both(texts: Iterable[str], held: bool) -> Value:
    english, german = texts
    return Value(english, german, held)


def _is_held_name(code: str) -> bool:
    return held_out("name", code, share_of_all=HELD_NAMES_SHARE)


def _named(draw: random.Random, entries: list[tuple[str, str, str]]) -> Value:
    code, english, german = _pick(draw, entries)
    return Value(english, german, _is_held_name(code))


def _country(draw: random.Random) -> Value:
    code, english, german = _pick(draw, COUNTRIES)
    english = f"the {english}" if code in ENGLISH_ARTICLE else english
    german = COUNTRIES_WITH_ARTICLE.get(code, german)
    forms = (
        {"in": f"in {english}", "from": f"from {english}"},
        {"in": f"in {german}", "from": f"aus {german}"},
    )
    return Value(english, german, _is_held_name(code), *forms)


def _language(draw: random.Random) -> Value:
    value = _named(draw, LANGUAGES)
    inflected = value.german.endswith("sch")
    forms = {"dat": value.german + "en", "acc": value.german + "e"} if inflected else {}
    return value._replace(german_forms=forms)


def _several(draw: random.Random, one: Callable[[random.Random], Value], most: int = 3) -> Value:
    values = list({value.english: value for value in (one(draw) for _ in range(draw.randint(2, most)))}.values())
    english = lists.format_list([value.english for value in values], locale=EN)
    german = lists.format_list([value.german for value in values], locale=DE)
    return Value(english, german, any(value.held for value in values))


def _amount_of(draw: random.Random, largest: float, decimals: int) -> float:
    """A number from 1.1 to `largest`, small ones as likely as large ones, with at most so many decimals."""
    value = 1.1 * (largest / 1.1) ** draw.random()
    return (
        round(value, draw.randint(0, decimals if value < 1000 else 0))
        if value >= 10
        else round(value, min(1, decimals)) or 2
    )


def _decimal(draw: random.Random, largest: float = 9_999, decimals: int = 2) -> Value:
    number = _amount_of(draw, largest, decimals)
    texts = (numbers.format_decimal(number, locale=locale) for locale in (EN, DE))
    return _both(texts, held_out("number", number))


def _count(draw: random.Random, largest: int = 90_000) -> Value:
    """An integer from 2, in figures or, at times, in words."""
    number = max(2, int(_amount_of(draw, largest, 0)))
    held = number > 12 and held_out("number", number)
    if draw.random() < (0.5 if number <= 12 else 0.2):
        return Value(spell_english(number), spell_german(number), held)
    return _both((numbers.format_decimal(number, locale=locale) for locale in (EN, DE)), held)


def _percent(draw: random.Random) -> Value:
    value = _decimal(draw, 99, 1)
    signs = draw.choice((("%", " %"), (" percent", " Prozent")))
    return value._replace(english=value.english + signs[0], german=value.german + signs[1])


def _compact(draw: random.Random) -> Value:
    number = round(draw.uniform(1.1, 99), draw.randint(0, 1)) * draw.choice((10**6, 10**6, 10**9))
    number = number if number not in (10**6, 10**9) else 2 * number
    texts = (numbers.format_compact_decimal(number, format_type="long", locale=x, fraction_digits=1) for x in (EN, DE))
    return _both(texts, held_out("compact", number))


def _amount(draw: random.Random) -> Value:
    code = _pick(draw, CURRENCIES)[0]
    style = "name"
    if draw.random() < 0.3:
        code, style = draw.choice(("USD", "EUR", "GBP")), draw.choice(("standard", "name"))
    number = _amount_of(draw, 50_000, 2)
    if style == "standard":
        digits = "0" if number == int(number) else "0.00"
        patterns = (f"¤#,##{digits}", f"#,##{digits} ¤")
        texts = [
            numbers.format_currency(number, code, pattern, locale=locale, currency_digits=False)
            for pattern, locale in zip(patterns, (EN, DE), strict=True)
        ]
    else:
        exact = number != int(number)  # 12.50 dollars, but 12 dollars
        texts = [
            numbers.format_currency(number, code, locale=locale, format_type="name", currency_digits=exact)
            for locale in (EN, DE)
        ]
    return _both(texts, held_out("number", number) or _is_held_name(code))


def _measure(draw: random.Random, kind: str = "") -> Value:
    """A number with a unit of the kind, of everyday size; of any kind and size without one."""
    codes = EVERYDAY_UNITS[kind] if kind else UNITS[draw.choice(tuple(UNITS))]
    code = _pick(draw, codes)
    number = _amount_of(draw, 5_000, 1)
    texts = (units.format_unit(number, code, length="long", locale=locale) for locale in (EN, DE))
    return _both(texts, held_out("number", number))


def _temperature(draw: random.Random) -> Value:
    number, code = (
        draw.randint(2, 45),
        draw.choice(("temperature-celsius", "temperature-celsius", "temperature-fahrenheit")),
    )
    texts = (units.format_unit(number, code, length="long", locale=locale) for locale in (EN, DE))
    return _both(texts, held_out("temperature", number))


def _duration(draw: random.Random) -> Value:
    """2 and more seconds ... years, German dative as `dat`; at times of two parts."""
    size = draw.randrange(1, len(_DURATIONS))
    english, german, dative = _DURATIONS[size]
    count = _count(draw, 60)
    value = Value(
        f"{count.english} {english}s",
        f"{count.german} {german}",
        count.held,
        {},
        {"dat": f"{count.german} {dative}"},
    )
    if draw.random() < 0.25:
        english, german, dative = _DURATIONS[size - 1]
        more = str(draw.randint(2, 11))
        value = Value(
            f"{value.english} and {more} {english}s",
            f"{value.german} und {more} {german}",
            value.held,
            {},
            {"dat": f"{value.german_forms['dat']} und {more} {dative}"},
        )
    return value


def _ago(draw: random.Random) -> Value:
    value = _duration(draw)
    return Value(f"{value.english} ago", f"vor {value.german_forms['dat']}", value.held)


def _calendar_day(draw: random.Random) -> datetime.date:
    return datetime.date(1950, 1, 1) + datetime.timedelta(days=draw.randrange(80 * 365))


def _day(draw: random.Random) -> Value:
    """`on March 3, 2021`; `bare` without the preposition."""
    day = _calendar_day(draw)
    english, german = (dates.format_date(day, "long", locale=locale) for locale in (EN, DE))
    return Value(f"on {english}", f"am {german}", held_out("day", day), {"bare": english}, {"bare": german})


def _date(draw: random.Random) -> Value:
    """When, as an adverbial: a day, a weekday, a month, a quarter, or so long from now."""
    day = _calendar_day(draw)
    held = held_out("day", day)

    def both(english: str, german: str | None = None) -> tuple[str, str]:
        return dates.format_date(day, english, locale=EN), dates.format_date(day, german or english, locale=DE)

    style = draw.choices(
        ("long", "full", "short", "medium", "day", "ordinal", "weekday", "month", "quarter", "in"),
        (4, 3, 2, 2, 4, 2, 2, 3, 2, 2),
    )[0]
    if style == "in":
        value = _duration(draw)
        return Value(f"in {value.english}", f"in {value.german_forms['dat']}", value.held)
    if style == "ordinal":
        english, german = ordinal(day.day)
        months = both("MMMM")
        return Value(
            f"on the {english} of {months[0]}", f"am {german} {months[1]}", held_out("day", day.month, day.day)
        )
    if style == "quarter":
        english, german = ordinal((day.month + 2) // 3)
        return Value(
            f"in the {english} quarter of {day.year}",
            f"im {german} Quartal {day.year}",
            held_out("quarter", day.year, english),
        )
    if style == "month":
        english, german = both("MMMM y")
        return Value(f"in {english}", f"im {german}", held_out("month", day.year, day.month))
    if style == "weekday":
        english, german = both("EEEE")
        return Value(f"on {english}", f"am {german}")
    if style == "full":
        english, german = both("full", "EEEE, 'dem' d. MMMM y")
    elif style == "day":
        english, german = both("MMMM d", "d. MMMM")
        held = held_out("day", day.month, day.day)
    else:
        english, german = both(style)
    return Value(f"on {english}", f"am {german}", held)


def _clock(draw: random.Random) -> Value:
    """`at 5:15 PM`; `bare` without the preposition (and without `Uhr`)."""
    moment = datetime.time(draw.randrange(24), draw.choice((0, 30, draw.randrange(60), draw.randrange(60))))
    english, german = (dates.format_time(moment, "short", locale=locale) for locale in (EN, DE))
    words = draw.choices(
        (("at", "um"), ("around", "gegen"), ("shortly before", "kurz vor"), ("after", "nach")), (6, 1, 1, 1)
    )[0]
    forms = ({"bare": english}, {"bare": german})
    return Value(f"{words[0]} {english}", f"{words[1]} {german} Uhr", held_out("time", moment), *forms)


def _time(draw: random.Random) -> Value:
    """When on a day, in figures or as one says it (`at half past five`, `um halb sechs`)."""
    if draw.random() < 0.75:
        return _clock(draw)
    hour = draw.randint(1, 12)
    names = spell_english(hour), spell_german(hour), spell_german(hour % 12 + 1)
    return draw.choice(
        (
            Value(f"at half past {names[0]}", f"um halb {names[2]}"),
            Value(f"at a quarter past {names[0]}", f"um Viertel nach {names[1]}"),
            Value(f"at a quarter to {spell_english(hour % 12 + 1)}", f"um Viertel vor {names[2]}"),
            Value(f"at ten past {names[0]}", f"um zehn nach {names[1]}"),
        )
    )


def _weekdays(draw: random.Random) -> Value:
    days = sorted(draw.sample(range(7), draw.randint(1, 3)))
    english = lists.format_list([f"{dates.get_day_names('wide', locale=EN)[day]}s" for day in days], locale=EN)
    german = lists.format_list([f"{dates.get_day_names('wide', locale=DE)[day].lower()}s" for day in days], locale=DE)
    return Value(f"on {english}", german, held_out("weekdays", days))


def _item(draw: random.Random) -> Value:
    english, german = draw.choice(ITEMS)
    count = _count(draw, 90)
    return Value(f"{count.english} {english}", f"{count.german} {german}", count.held)


def _ordinal_value(draw: random.Random) -> Value:
    number = draw.choice((draw.randint(1, 12), draw.randint(1, 60)))
    return _both(ordinal(number), number > 12 and held_out("ordinal", number))


def _year(draw: random.Random) -> Value:
    year = draw.randint(1700, 2030)
    return Value(str(year), str(year), held_out("year", year))


def _person(draw: random.Random) -> Value:
    name = draw.choice(PEOPLE)
    return Value(name, name)


_MAKERS: dict[str, Callable[[random.Random], Value]] = {
    "person": _person,
    "country": _country,
    "land": lambda draw: _named(draw, LANDS),
    "countries": lambda draw: _several(draw, lambda d: _named(d, LANDS), 4),
    "city": lambda draw: _named(draw, CITIES),
    "language": _language,
    "languages": lambda draw: _several(draw, _language),
    "zone": lambda draw: _named(draw, ZONES),
    "amount": _amount,
    "decimal": _decimal,
    "number": _count,
    "percent": _percent,
    "compact": _compact,
    "items": lambda draw: _several(draw, _item),
    "ordinal": _ordinal_value,
    "year": _year,
    "duration": _duration,
    "ago": _ago,
    "day": _day,
    "date": _date,
    "clock": _clock,
    "time": _time,
    "weekdays": _weekdays,
    "temperature": _temperature,
    "measure": _measure,
    **{kind: partial(noun_phrase, kind=kind) for kind in NOUNS},
    **{kind: partial(_measure, kind=kind) for kind in ("length", "mass", "area", "volume", "speed", "power")},
    "data": lambda draw: _measure(draw, "digital"),
}


def draw_value(kind: str, draw: random.Random) -> Value:
    """A random value of a slot's kind."""
    return _MAKERS[kind](draw)
