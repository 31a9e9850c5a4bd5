"""Names and units of CLDR (through Babel) that the translation data uses, as `(code, English, German)`."""

import re
from collections.abc import Callable
from typing import Any

from babel import Locale
from babel.core import get_global

from seq2seq_distill.demo.grammar import share
from seq2seq_distill.demo.lexicon import COUNTRIES_WITH_ARTICLE, LEFT_OUT_COUNTRIES

EN, DE = Locale("en"), Locale("de")


def _names(english: Any, german: Any, wanted: Callable[[str], bool]) -> list[tuple[str, str, str]]:
    """`(code, English, German)` of the names that are plain words in both languages, in an order that a hash gives."""
    plain = re.compile(r"[^\W\d_][^\W\d_ '.-]*(?:[ '.-]+[^\W\d_]+)*")
    both = [(code, english[code], german.get(code)) for code in english if wanted(code)]
    good = [entry for entry in both if entry[2] and all(plain.fullmatch(name) for name in entry[1:])]
    return sorted(good, key=lambda entry: share("order", entry[0]))


def _cities() -> list[tuple[str, str, str]]:
    def names(locale: Locale) -> dict[str, str]:
        return {
            zone: locale.time_zones.get(zone, {}).get("city") or zone.split("/")[-1].replace("_", " ") for zone in zones
        }

    area = ("Africa/", "America/", "Asia/", "Australia/", "Europe/")
    zones = [zone for zone in sorted(get_global("zone_territories")) if zone.startswith(area) and zone.count("/") == 1]
    return _names(names(EN), names(DE), lambda zone: True)


def _standard_times(locale: Locale) -> dict[str, str]:
    every = {zone: data.get("long", {}).get("standard") for zone, data in locale.meta_zones.items()}
    return {zone: name for zone, name in every.items() if name}


def _unit_codes() -> dict[str, list[str]]:
    """CLDR's units by what they measure, without rare ones whose names are no plain words."""
    odd = re.compile(
        r"person|imperial|generic|gasoline|portion|item|per(?:mill|myr)|percent|beaufort|light-speed|glucose|dessert"
        r"|jigger|-em$|metric|ofhg|karat|-mole|millimole|foodcalorie|duration|graphics|therm|scandinavian|consumption"
        r"|-per-100|troy|dunam|pinch|drop"
    )
    codes: dict[str, list[str]] = {}
    for code in sorted(EN._data["unit_patterns"]):  # Babel has no public list of units
        if not odd.search(code) and code in DE._data["unit_patterns"]:
            codes.setdefault(code.split("-")[0], []).append(code)
    return {kind: sorted(group, key=lambda code: share("order", code)) for kind, group in codes.items()}


COUNTRIES = _names(EN.territories, DE.territories, lambda code: len(code) == 2 and code not in LEFT_OUT_COUNTRIES)
LANDS = [entry for entry in COUNTRIES if entry[0] not in COUNTRIES_WITH_ARTICLE]
LANGUAGES = [entry for entry in _names(EN.languages, DE.languages, lambda code: "_" not in code) if " " not in entry[2]]
CITIES = _cities()
ZONES = _names(_standard_times(EN), _standard_times(DE), lambda zone: True)
CURRENCIES = _names(EN.currencies, DE.currencies, lambda code: not code.startswith("X"))
UNITS = _unit_codes()
_EXTREME = re.compile(
    r"(?:pico|nano|micro|milli(?:gram|watt))|parsec|astro|light|solar|earth|dalton|grain|point|carat"
    r"|cubic-(?:mile|kilo)|-bit|-byte"
)
EVERYDAY_UNITS = {kind: [code for code in codes if not _EXTREME.search(code)] for kind, codes in UNITS.items()}
