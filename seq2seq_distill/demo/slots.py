"""Values for the slots of the translation data: one meaning, written in English and in German.

Names, units, currencies and formats are CLDR's (through Babel); number words, durations and the inflection of noun phrases are
made here. Values that can be composed (numbers, dates, times, amounts), and a few names, are marked as held out, by a hash.
"""

import datetime
import hashlib
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from babel import Locale, dates, lists, numbers, units
from babel.core import get_global

from seq2seq_distill.demo.lexicon import (
    ADJECTIVES,
    COUNTRIES_WITH_ARTICLE,
    ENGLISH_ARTICLE,
    ITEMS,
    LEFT_OUT_COUNTRIES,
    NOUNS,
    PEOPLE,
)

HELD_SHARE = 0.1
HELD_NAMES_SHARE = 0.03

_EN, _DE = Locale("en"), Locale("de")
_DIGITS_EN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen".split()
)
_DIGITS_DE = (
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn"
    " achtzehn neunzehn".split()
)
_TENS_EN = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_TENS_DE = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()


class Value(NamedTuple):
    """One meaning in both languages; forms not listed are the plain ones. `held` values are not for training."""

    english: str
    german: str
    held: bool = False
    english_forms: dict[str, str] = {}  # never written to
    german_forms: dict[str, str] = {}

    def english_form(self, form: str | None) -> str:
        return self.english_forms.get(form or "", self.english)

    def german_form(self, form: str | None) -> str:
        return self.german_forms.get(form or "", self.german)


def share(*key: object) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16) / 2**32


def spell_english(n: int) -> str:
    """0 to 999,999 in words, American: `two hundred thirty-four`."""
    if n < 20:
        return _DIGITS_EN[n]
    if n < 100:
        return _TENS_EN[n // 10 - 2] + (f"-{_DIGITS_EN[n % 10]}" if n % 10 else "")
    size, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    return f"{spell_english(n // size)} {name}" + (f" {spell_english(n % size)}" if n % size else "")


def spell_german(n: int, last: bool = True) -> str:
    """0 to 999,999 in words: `zweihundertvierunddreißig`. `last` is for the recursion: 1 is `eins` at the end, else `ein`."""
    if n < 20:
        return "ein" if n == 1 and not last else _DIGITS_DE[n]
    if n < 100:
        return (f"{spell_german(n % 10, False)}und" if n % 10 else "") + _TENS_DE[n // 10 - 2]
    size, name = (1000, "tausend") if n >= 1000 else (100, "hundert")
    return spell_german(n // size, False) + name + (spell_german(n % size, last) if n % size else "")


def _ordinal(n: int) -> tuple[str, str]:
    """The n-th in words, n < 100; German with the weak ending -en."""
    words = spell_english(n)
    irregular = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth"}
    head, joint, tail = words.rpartition("-")
    tail = irregular.get(tail) or (tail[:-1] + "ieth" if tail.endswith("y") else tail + "th")
    german = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}.get(n) or spell_german(n) + ("t" if n < 20 else "st")
    return head + joint + tail, german + "en"


def _held(*key: object) -> bool:
    return share(*key) < HELD_SHARE


def _pick(draw: random.Random, items: Sequence[Any]) -> Any:
    """One of the items, the first ones more often: names of the world have a long tail."""
    return items[int(len(items) * draw.random() ** 1.7)]


def _names(english: Any, german: Any, wanted: Callable[[str], bool]) -> list[tuple[str, str, str]]:
    """`(code, English, German)` of the names that are plain words in both languages, in an order that a hash gives."""
    plain = re.compile(r"[^\W\d_][^\W\d_ '.-]*(?:[ '.-]+[^\W\d_]+)*")
    both = [(code, english[code], german.get(code)) for code in english if wanted(code)]
    good = [entry for entry in both if entry[2] and all(plain.fullmatch(name) for name in entry[1:])]
    return sorted(good, key=lambda entry: share("order", entry[0]))


def _cities() -> list[tuple[str, str, str]]:
    def names(locale: Locale) -> dict[str, str]:
        return {zone: locale.time_zones.get(zone, {}).get("city") or zone.split("/")[-1].replace("_", " ") for zone in zones}

    area = ("Africa/", "America/", "Asia/", "Australia/", "Europe/")
    zones = [zone for zone in sorted(get_global("zone_territories")) if zone.startswith(area) and zone.count("/") == 1]
    return _names(names(_EN), names(_DE), lambda zone: True)


def _standard_times(locale: Locale) -> dict[str, str]:
    every = {zone: data.get("long", {}).get("standard") for zone, data in locale.meta_zones.items()}
    return {zone: name for zone, name in every.items() if name}


def _unit_codes() -> dict[str, list[str]]:
    """CLDR's units by what they measure, without rare ones whose names are no plain words."""
    odd = re.compile(
        r"person|imperial|generic|gasoline|portion|item|per(?:mill|myr)|percent|beaufort|light-speed|glucose|dessert|jigger|-em$"
        r"|metric|ofhg|karat|-mole|millimole|foodcalorie|duration|graphics|therm|scandinavian|consumption|-per-100|troy|dunam|pinch|drop"
    )
    codes: dict[str, list[str]] = {}
    for code in sorted(_EN._data["unit_patterns"]):  # Babel has no public list of units
        if not odd.search(code) and code in _DE._data["unit_patterns"]:
            codes.setdefault(code.split("-")[0], []).append(code)
    return {kind: sorted(group, key=lambda code: share("order", code)) for kind, group in codes.items()}


_COUNTRIES = _names(_EN.territories, _DE.territories, lambda code: len(code) == 2 and code not in LEFT_OUT_COUNTRIES)
_LANDS = [entry for entry in _COUNTRIES if entry[0] not in COUNTRIES_WITH_ARTICLE]
_LANGUAGES = [entry for entry in _names(_EN.languages, _DE.languages, lambda code: "_" not in code) if " " not in entry[2]]
_CITIES = _cities()
_ZONES = _names(_standard_times(_EN), _standard_times(_DE), lambda zone: True)
_CURRENCIES = _names(_EN.currencies, _DE.currencies, lambda code: not code.startswith("X"))
_UNITS = _unit_codes()
_DURATIONS = (  # English singular, German plural: nominative and accusative, dative
    ("second", "Sekunden", "Sekunden"),
    ("minute", "Minuten", "Minuten"),
    ("hour", "Stunden", "Stunden"),
    ("day", "Tage", "Tagen"),
    ("week", "Wochen", "Wochen"),
    ("month", "Monate", "Monaten"),
    ("year", "Jahre", "Jahren"),
)


def _noun(draw: random.Random, kind: str) -> Value:
    """A noun phrase with article or possessive and perhaps an adjective, declined: nominative, `acc`, `dat`."""
    english, german, gender = draw.choice(NOUNS[kind])
    adjective = draw.choice(ADJECTIVES[kind]) if draw.random() < 0.6 else None
    only = adjective is not None and adjective[0] in ("first", "last", "next")
    determiner = draw.choices(("the", "a", "our", "my"), (6, 0 if only else 2, 2, 1))[0]
    if determiner == "the":
        articles = {"m": ("der", "den", "dem"), "f": ("die", "die", "der"), "n": ("das", "das", "dem")}[gender]
        endings = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en")}[gender]
    else:
        stem = {"a": "ein", "our": "unser", "my": "mein"}[determiner]
        articles = tuple(stem + tail for tail in {"m": ("", "en", "em"), "f": ("e", "e", "er"), "n": ("", "", "em")}[gender])
        endings = {"m": ("er", "en", "en"), "f": ("e", "e", "en"), "n": ("es", "es", "en")}[gender]
    words = [adjective[0] if adjective else "", english]
    first = next(filter(None, words))
    if determiner == "a" and first[0] in "aeioAEIO":
        determiner = "an"
    forms = [
        " ".join(filter(None, (article, adjective[1] + ending if adjective else "", german)))
        for article, ending in zip(articles, endings, strict=True)
    ]
    held = adjective is not None and share("noun", english, adjective[0]) < HELD_SHARE
    return Value(" ".join(filter(None, (determiner, *words))), forms[0], held, {}, {"acc": forms[1], "dat": forms[2]})


def _named(draw: random.Random, entries: list[tuple[str, str, str]]) -> Value:
    code, english, german = _pick(draw, entries)
    return Value(english, german, share("name", code) < HELD_NAMES_SHARE)


def _country(draw: random.Random) -> Value:
    code, english, german = _pick(draw, _COUNTRIES)
    english = f"the {english}" if code in ENGLISH_ARTICLE else english
    german = COUNTRIES_WITH_ARTICLE.get(code, german)
    forms = ({"in": f"in {english}", "from": f"from {english}"}, {"in": f"in {german}", "from": f"aus {german}"})
    return Value(english, german, share("name", code) < HELD_NAMES_SHARE, *forms)


def _language(draw: random.Random) -> Value:
    value = _named(draw, _LANGUAGES)
    inflected = value.german.endswith("sch")
    forms = {"dat": value.german + "en", "acc": value.german + "e"} if inflected else {}
    return value._replace(german_forms=forms)


def _several(draw: random.Random, one: Callable[[random.Random], Value], most: int = 3) -> Value:
    values = list({value.english: value for value in (one(draw) for _ in range(draw.randint(2, most)))}.values())
    english, german = (
        lists.format_list([value[side] for value in values], locale=locale) for side, locale in enumerate((_EN, _DE))
    )
    return Value(english, german, any(value.held for value in values))


def _amount_of(draw: random.Random, largest: float, decimals: int) -> float:
    """A number from 1.1 to `largest`, small ones as likely as large ones, with at most so many decimals."""
    value = 1.1 * (largest / 1.1) ** draw.random()
    return round(value, draw.randint(0, decimals if value < 1000 else 0)) if value >= 10 else round(value, min(1, decimals)) or 2


def _decimal(draw: random.Random, largest: float = 9_999, decimals: int = 2) -> Value:
    number = _amount_of(draw, largest, decimals)
    texts = (numbers.format_decimal(number, locale=locale) for locale in (_EN, _DE))
    return Value(*texts, held=_held("number", number))


def _count(draw: random.Random, largest: int = 90_000) -> Value:
    """An integer from 2, in figures or, at times, in words."""
    number = max(2, int(_amount_of(draw, largest, 0)))
    held = number > 12 and _held("number", number)
    if draw.random() < (0.5 if number <= 12 else 0.2):
        return Value(spell_english(number), spell_german(number), held)
    return Value(*(numbers.format_decimal(number, locale=locale) for locale in (_EN, _DE)), held=held)


def _percent(draw: random.Random) -> Value:
    value = _decimal(draw, 99, 1)
    signs = draw.choice((("%", " %"), (" percent", " Prozent")))
    return value._replace(english=value.english + signs[0], german=value.german + signs[1])


def _compact(draw: random.Random) -> Value:
    number = round(draw.uniform(1.1, 99), draw.randint(0, 1)) * draw.choice((10**6, 10**6, 10**9))
    number = number if number not in (10**6, 10**9) else 2 * number
    texts = (numbers.format_compact_decimal(number, format_type="long", locale=x, fraction_digits=1) for x in (_EN, _DE))
    return Value(*texts, held=_held("compact", number))


def _amount(draw: random.Random) -> Value:
    code = _pick(draw, _CURRENCIES)[0]
    style = "name"
    if draw.random() < 0.3:
        code, style = draw.choice(("USD", "EUR", "GBP")), draw.choice(("standard", "name"))
    number = _amount_of(draw, 50_000, 2)
    if style == "standard":
        digits = "0" if number == int(number) else "0.00"
        patterns = (f"¤#,##{digits}", f"#,##{digits} ¤")
        texts = [
            numbers.format_currency(number, code, pattern, locale=locale, currency_digits=False)
            for pattern, locale in zip(patterns, (_EN, _DE), strict=True)
        ]
    else:
        exact = number != int(number)  # 12.50 dollars, but 12 dollars
        texts = [
            numbers.format_currency(number, code, locale=locale, format_type="name", currency_digits=exact)
            for locale in (_EN, _DE)
        ]
    return Value(*texts, held=_held("number", number) or share("name", code) < HELD_NAMES_SHARE)


def _measure(draw: random.Random, *kinds: str) -> Value:
    kind = draw.choice(kinds or tuple(_UNITS))
    code = _pick(draw, _UNITS[kind])
    number = _amount_of(draw, 5_000, 1)
    texts = (units.format_unit(number, code, length="long", locale=locale) for locale in (_EN, _DE))
    return Value(*texts, held=_held("number", number))


def _temperature(draw: random.Random) -> Value:
    number, code = draw.randint(2, 45), draw.choice(("temperature-celsius", "temperature-celsius", "temperature-fahrenheit"))
    texts = (units.format_unit(number, code, length="long", locale=locale) for locale in (_EN, _DE))
    return Value(*texts, held=_held("temperature", number))


def _duration(draw: random.Random) -> Value:
    """2 and more seconds ... years, German dative as `dat`; at times of two parts."""
    size = draw.randrange(1, len(_DURATIONS))
    english, german, dative = _DURATIONS[size]
    count = _count(draw, 60)
    value = Value(f"{count.english} {english}s", f"{count.german} {german}", count.held, {}, {"dat": f"{count.german} {dative}"})
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
    english, german = (dates.format_date(day, "long", locale=locale) for locale in (_EN, _DE))
    return Value(f"on {english}", f"am {german}", _held("day", day), {"bare": english}, {"bare": german})


def _date(draw: random.Random) -> Value:
    """When, as an adverbial: a day, a weekday, a month, a quarter, or so long from now."""
    day = _calendar_day(draw)
    held = _held("day", day)

    def both(english: str, german: str | None = None) -> tuple[str, str]:
        return dates.format_date(day, english, locale=_EN), dates.format_date(day, german or english, locale=_DE)

    style = draw.choices(("long", "full", "short", "medium", "day", "ordinal", "weekday", "month", "quarter", "in"), (4, 3, 2, 2, 4, 2, 2, 3, 2, 2))[0]
    if style == "in":
        value = _duration(draw)
        return Value(f"in {value.english}", f"in {value.german_forms['dat']}", value.held)
    if style == "ordinal":
        english, german = _ordinal(day.day)
        months = both("MMMM")
        return Value(f"on the {english} of {months[0]}", f"am {german} {months[1]}", _held("day", day.month, day.day))
    if style == "quarter":
        english, german = _ordinal((day.month + 2) // 3)
        return Value(f"in the {english} quarter of {day.year}", f"im {german} Quartal {day.year}", _held("quarter", day.year, english))
    if style == "month":
        english, german = both("MMMM y")
        return Value(f"in {english}", f"im {german}", _held("month", day.year, day.month))
    if style == "weekday":
        english, german = both("EEEE")
        return Value(f"on {english}", f"am {german}")
    if style == "full":
        english, german = both("full", "EEEE, 'dem' d. MMMM y")
    elif style == "day":
        english, german = both("MMMM d", "d. MMMM")
        held = _held("day", day.month, day.day)
    else:
        english, german = both(style)
    return Value(f"on {english}", f"am {german}", held)


def _clock(draw: random.Random) -> Value:
    """`at 5:15 PM`; `bare` without the preposition (and without `Uhr`)."""
    moment = datetime.time(draw.randrange(24), draw.choice((0, 30, draw.randrange(60), draw.randrange(60))))
    english, german = (dates.format_time(moment, "short", locale=locale) for locale in (_EN, _DE))
    words = draw.choices((("at", "um"), ("around", "gegen"), ("shortly before", "kurz vor"), ("after", "nach")), (6, 1, 1, 1))[0]
    forms = ({"bare": english}, {"bare": german})
    return Value(f"{words[0]} {english}", f"{words[1]} {german} Uhr", _held("time", moment), *forms)


def _time(draw: random.Random) -> Value:
    """When on a day, in figures or as one says it (`at half past five`, `um halb sechs`)."""
    if draw.random() < 0.75:
        return _clock(draw)
    hour = draw.randint(1, 12)
    names = spell_english(hour), spell_german(hour), spell_german(hour % 12 + 1)
    return draw.choice((
        Value(f"at half past {names[0]}", f"um halb {names[2]}"),
        Value(f"at a quarter past {names[0]}", f"um Viertel nach {names[1]}"),
        Value(f"at a quarter to {spell_english(hour % 12 + 1)}", f"um Viertel vor {names[2]}"),
        Value(f"at ten past {names[0]}", f"um zehn nach {names[1]}"),
    ))


def _weekdays(draw: random.Random) -> Value:
    days = sorted(draw.sample(range(7), draw.randint(1, 3)))
    english = lists.format_list([f"{dates.get_day_names('wide', locale=_EN)[day]}s" for day in days], locale=_EN)
    german = lists.format_list([f"{dates.get_day_names('wide', locale=_DE)[day].lower()}s" for day in days], locale=_DE)
    return Value(f"on {english}", german, _held("weekdays", days))


def _item(draw: random.Random) -> Value:
    _, english, german = draw.choice(ITEMS)
    count = _count(draw, 90)
    return Value(f"{count.english} {english}", f"{count.german} {german}", count.held)


def _ordinal_value(draw: random.Random) -> Value:
    number = draw.choice((draw.randint(1, 12), draw.randint(1, 60)))
    return Value(*_ordinal(number), held=number > 12 and _held("ordinal", number))


def _year(draw: random.Random) -> Value:
    year = draw.randint(1700, 2030)
    return Value(str(year), str(year), _held("year", year))


def _person(draw: random.Random) -> Value:
    name = draw.choice(PEOPLE)
    return Value(name, name)


_MAKERS: dict[str, Callable[[random.Random], Value]] = {
    "person": _person,
    "country": _country,
    "land": lambda draw: _named(draw, _LANDS),
    "countries": lambda draw: _several(draw, lambda d: _named(d, _LANDS), 4),
    "city": lambda draw: _named(draw, _CITIES),
    "language": _language,
    "languages": lambda draw: _several(draw, _language),
    "zone": lambda draw: _named(draw, _ZONES),
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
    **{kind: lambda draw, kind=kind: _noun(draw, kind) for kind in NOUNS},
    **{kind: lambda draw, kind=kind: _measure(draw, kind) for kind in ("length", "mass", "area", "volume", "speed", "power")},
    "data": lambda draw: _measure(draw, "digital"),
}


def draw_value(kind: str, draw: random.Random) -> Value:
    """A random value of a slot's kind."""
    return _MAKERS[kind](draw)
