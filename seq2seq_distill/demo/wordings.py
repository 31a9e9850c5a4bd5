"""A translator's free choice: German words, and others of nearly the same meaning, of the same gender and endings."""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

Option = TypeVar("Option")

USUAL_SHARE = 0.7
"""How often what is usual is chosen."""

# The usual word first; `*` stands for any ending of an adjective.
_TABLE = """
    Menschen/Leute/Personen, Besucher/Gäste, Karten/Tickets/Eintrittskarten, Niederlassungen/Filialen/Zweigstellen,
    beginnt/startet, dauert/währt, verschoben/verlegt, abgesagt/gestrichen, geöffnet/offen, gebaut/errichtet/erbaut,
    erreicht/schafft, stammt/kommt, stieg/kletterte, sank/fiel, kaufte/erwarb, gekauft/erworben, verkaufte/veräußerte,
    bestellt/geordert, lieferte/brachte, schickt/sendet, veröffentlicht/herausgegeben, verfügbar/erhältlich,
    übersetzt/übertragen, unterzeichnete/unterschrieb, zahlte/bezahlte, braucht/benötigt, wechselte/tauschte,
    spricht/beherrscht, reist/fährt, lebt/wohnt, steigt/klettert, beträgt/ist, lautet/ist, liefert/erzeugt, betrug/war,
    einschließlich/inklusive, entfernt/weg, Stock/Stockwerk, belegte/erreichte, fasst/enthält, kamen/gingen,
    weil/da, Obwohl/Obgleich, deshalb/daher/deswegen, aber/doch, während/wohingegen, Leider/Bedauerlicherweise,
    Laut/Nach Angaben von, sagt/meint, gegen/etwa um, Treffen/Meeting, Ausstellung/Schau, Prüfung/Klausur,
    Hochzeit/Trauung, Feier/Party, Versteigerung/Auktion, Reise/Fahrt, Aufführung/Vorstellung, Führung/Tour,
    Krankenhaus/Spital, Bibliothek/Bücherei, Geschäft/Kaufhaus, Schwimmbad/Freibad, Lager/Depot, Lastwagen/Laster,
    Auto/Fahrzeug, Computer/Rechner, Fahrrad/Rad, Gemälde/Bild, Fernrohr/Teleskop, Paket/Päckchen, Vertrag/Kontrakt,
    Artikel/Aufsatz, Handbuch/Lehrbuch, Studie/Untersuchung, Theaterstück/Stück, Erklärung/Stellungnahme,
    Firma/Gesellschaft, Ärztin/Medizinerin, Autorin/Schriftstellerin, Anwältin/Rechtsanwältin,
    Reiseleiter/Fremdenführer, Forscherin/Wissenschaftlerin, Stühle/Sessel, Bücher/Bände, Kisten/Schachteln,
    Zeitschriften/Illustrierte, berühmt*/bekannt*, wichtig*/bedeutend*, schnell*/rasch*, kaputt*/defekt*,
    billig*/günstig*, schön*/hübsch*, geplant*/vorgesehen*, städtisch*/kommunal*, gebraucht*/benutzt*,
    zuständig*/verantwortlich*, geheim*/vertraulich*, freundlich*/nett*"""
_WORDINGS = [entry.strip().split("/") for entry in _TABLE.split(",")]
_WORDS = {
    usual.removesuffix("*"): [word.removesuffix("*") for word in (usual, *others)] for usual, *others in _WORDINGS
}
_WHOLE = "|".join(usual for usual, *_ in _WORDINGS if not usual.endswith("*"))
_STEMS = "|".join(usual.removesuffix("*") for usual, *_ in _WORDINGS if usual.endswith("*"))
_USUAL = re.compile(rf"\b({_WHOLE})\b|\b({_STEMS})((?:e[mnrs]?)?)\b")


def choose(options: Sequence[Option], draw: random.Random) -> Option:
    """The first, usual one, or another."""
    return options[0] if len(options) == 1 or draw.random() < USUAL_SHARE else draw.choice(options[1:])


def reword(german: str, draw: random.Random) -> str:
    """The sentence with some of its words in place of the usual ones, drawn at random."""

    def word(match: re.Match[str]) -> str:
        whole, stem, ending = match.groups("")
        return choose(_WORDS[whole or stem], draw) + ending

    return _USUAL.sub(word, german)
