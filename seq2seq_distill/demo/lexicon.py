"""Words and sentence patterns of the translation data: English and German side by side.

A slot `{kind}` or `{kind:form}` is filled by a value of that kind, the same on both sides; a digit tells two values of
one kind apart (`{city}`, `{city2}`). Forms of noun phrases: nominative (none given), `acc`, `dat`.
"""

from typing import NamedTuple


def words(text: str) -> tuple[str, ...]:
    """The words of a text, for tables that read better as text."""
    return tuple(text.split())


class Clause(NamedTuple):
    """An English clause and the four parts of the German one, from which each German word order follows.

    `end` is what a German main clause keeps for its end: a participle, an adjective, a place to go to, or a separable
    prefix written `ab-`. Parts of `middle` that may come in reverse order have `&` between them."""

    english: str
    subject: str
    verb: str
    middle: str
    end: str = ""

    def german(self, order: str, turned: bool = False) -> str:
        """The clause as main clause (`main`), verb-first after something in front (`inv`) or verb-last (`sub`); the
        parts of its middle in their usual order or, if `turned`, in reverse."""
        end = self.end.removesuffix("-")
        middle = " ".join(self.middle.split(" & ")[:: -1 if turned else 1])
        if order == "main":
            parts = [self.subject, self.verb, middle, end]
        elif order == "inv":
            parts = [self.verb, self.subject, middle, end]
        elif self.end.endswith("-"):
            parts = [self.subject, middle, end + self.verb]
        else:
            parts = [self.subject, middle, end, self.verb]
        return " ".join(filter(None, parts))


def _clauses(table: str) -> tuple[Clause, ...]:
    return tuple(Clause(*(part.strip() for part in line.split("|"))) for line in table.strip().splitlines())


CLAUSES = _clauses("""
{event} in {city} begins {date} {time}              | {event} in {city} | beginnt | {date} & {time}
{event} {country:in} starts {time}                  | {event} {country:in} | fängt | {time} | an-
{event} takes place {date} in {city}                | {event} | findet | {date} & in {city} | statt-
{event} lasts {duration}                            | {event} | dauert | {duration}
{event} was moved to {day:bare}                     | {event} | wurde | auf den {day:bare} | verschoben
{event} ended {ago}                                 | {event} | endete | {ago}
{event} was canceled {ago}                          | {event} | wurde | {ago} | abgesagt
{number} people attended {event} {country:in}       | {number} Menschen | besuchten | {event:acc} {country:in}
tickets for {event} cost {amount}                   | Karten für {event:acc} | kosten | {amount}
{person} is looking forward to {event} {country:in} | {person} | freut | sich auf {event:acc} {country:in}
{building} is open from {clock:bare} to {clock2:bare} \
    | {building} | ist | von {clock:bare} bis {clock2:bare} Uhr | geöffnet
{building} is closed {weekdays}                     | {building} | ist | {weekdays} | geschlossen
{building} was built in {year}                      | {building} | wurde | im Jahr {year} | gebaut
{building} is {length} from {building2:dat}         | {building} | ist | {length} von {building2:dat} | entfernt
{agent} opened {building} {date}                    | {agent} | eröffnete | {date} & {building:acc}
{agent} is waiting {time} in front of {building}    | {agent} | wartet | {time} & vor {building:dat} | auf uns
{number} visitors came to {building} {date}         | {number} Besucher | kamen | {date} & zu {building:dat}
{vehicle} to {city} leaves {time}                   | {vehicle} nach {city} | fährt | {time} | ab-
{vehicle} from {city} arrives {date} {time}         | {vehicle} aus {city} | kommt | {date} & {time} | an-
{vehicle} from {city} to {city2} covers {length}    | {vehicle} von {city} nach {city2} | legt | {length} | zurück-
{vehicle} from {city} was {duration} late           | {vehicle} aus {city} | hatte | {duration} Verspätung
{vehicle} reaches {speed}                           | {vehicle} | erreicht | {speed}
{goods} costs {amount}                              | {goods} | kostet | {amount}
{goods} weighs {mass}                               | {goods} | wiegt | {mass}
{goods} is {length} long and {length2} wide         | {goods} | ist | {length} lang und {length2} breit
{goods} comes {country:from}                        | {goods} | stammt | {country:from}
{goods} was in {building} for {duration}            | {goods} | war | {duration} lang & in {building:dat}
the price of {goods} rose by {percent}              | der Preis für {goods:acc} | stieg | um {percent}
the price of {goods} fell to {amount}               | der Preis für {goods:acc} | sank | auf {amount}
{person} bought {goods} for {amount}                | {person} | kaufte | {goods:acc} & für {amount}
{person} has bought {goods} in {city}               | {person} | hat | in {city} & {goods:acc} | gekauft
{agent} sold {goods} {ago}                          | {agent} | verkaufte | {ago} & {goods:acc}
{person} has ordered {items}                        | {person} | hat | {items} | bestellt
{agent} delivered {items} {date}                    | {agent} | lieferte | {date} & {items}
{agent} sends {goods} to {city} {date}              | {agent} | schickt | {goods:acc} & {date} | nach {city}
{document} was published {date}                     | {document} | wurde | {date} | veröffentlicht
{document} is available in {languages}              | {document} | ist | auf {languages} | verfügbar
{document} was translated from {language:plain} into {language2:plain} \
    | {document} | wurde | aus dem {language:dat} ins {language2:acc} | übersetzt
{document} has {number} pages                        | {document} | hat | {number} Seiten
{agent} signed {document} {date} in {city}          | {agent} | unterzeichnete | {date} & in {city} & {document:acc}
{agent} is writing {document} in {language:plain}   | {agent} | schreibt | {document:acc} & auf {language:plain}
{agent} paid {amount} for {goods}                   | {agent} | zahlte | {amount} & für {goods:acc}
{agent} owes {person} {amount}                      | {agent} | schuldet | {person} {amount}
{agent} needs another {duration} for {document}     | {agent} | braucht | noch {duration} & für {document:acc}
{agent} has branches in {countries}                 | {agent} | hat | Niederlassungen in {countries}
{person} exchanged {amount} for {amount2}           | {person} | wechselte | {amount} in {amount2}
{person} speaks {languages}                         | {person} | spricht | {languages}
{person} has been learning {language:plain} for {duration} | {person} | lernt | seit {duration:dat} & {language:plain}
{person} was born {day} in {city}                   | {person} | wurde | {day} & in {city} | geboren
{person} is traveling {country:from} to {city}      | {person} | reist | {country:from} nach {city}
{person} has lived {country:in} for {duration}      | {person} | lebt | seit {duration:dat} & {country:in}
{person} is calling back {time}                     | {person} | ruft | {time} | zurück-
{person} came in {ordinal} place {country:in}       | {person} | belegte | {country:in} & den {ordinal} Platz
{person} lives on the {ordinal} floor of {building} | {person} | wohnt | im {ordinal} Stock von {building:dat}
the temperature in {city} rises to {temperature}    | die Temperatur in {city} | steigt | auf {temperature}
the temperature {country:in} fell by {percent}      | die Temperatur {country:in} | sank | um {percent}
the measured value is {measure}                     | der Messwert | beträgt | {measure}
the result of the measurement was {measure}         | das Ergebnis der Messung | war | {measure}
the population of {land} is {compact}               | die Einwohnerzahl von {land} | beträgt | {compact}
sales {country:in} grew by {percent} to {compact}   | der Umsatz {country:in} | wuchs | um {percent} auf {compact}
the tank in {building} holds {volume}               | der Tank in {building:dat} | fasst | {volume}
the file is {data} in size                          | die Datei | ist | {data} | groß
the lot in {city} is {area} in size                 | das Grundstück in {city} | ist | {area} | groß
the power plant {country:in} supplies {power}       | das Kraftwerk {country:in} | liefert | {power}
the answer to question {number} is {decimal}        | die Antwort auf Frage {number} | lautet | {decimal}
the call from {city} came {clock} ({zone})          | der Anruf aus {city} | kam | {clock} ({zone})
the bill was {amount} including {percent} tax       | die Rechnung | betrug | {amount} einschließlich {percent} Steuern
""")

# How clauses become a sentence: weight, English, and German in its usual and other ways; the forms of a and b are the
# German word orders.
FRAMES: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (14, "{a}.", ("{a:main}.",)),
    (6, "{date}, {a}.", ("{date} {a:inv}.",)),
    (2, "Unfortunately, {a}.", ("Leider {a:inv}.",)),
    (3, "According to {person}, {a}.", ("Laut {person} {a:inv}.",)),
    (4, "{person} says that {a}.", ("{person} sagt, dass {a:sub}.", "{person} sagt, {a:main}.")),
    (3, "{agent} did not know that {a}.", ("{agent} wusste nicht, dass {a:sub}.",)),
    (2, "Do you know whether {a}?", ("Wissen Sie, ob {a:sub}?", "Ist Ihnen bekannt, ob {a:sub}?")),
    (2, "Is it true that {a}?", ("Stimmt es, dass {a:sub}?", "Ist es wahr, dass {a:sub}?")),
    (5, "{a}, and {b}.", ("{a:main}, und {b:main}.",)),
    (5, "{a}, but {b}.", ("{a:main}, aber {b:main}.", "{a:main}, jedoch {b:inv}.")),
    (4, "{a} because {b}.", ("{a:main}, weil {b:sub}.", "{a:main}, denn {b:main}.")),
    (4, "Although {a}, {b}.", ("Obwohl {a:sub}, {b:inv}.", "Zwar {a:inv}, aber {b:main}.")),
    (3, "Since {a}, {b}.", ("Da {a:sub}, {b:inv}.", "{b:main}, weil {a:sub}.")),
    (3, "{a}; therefore, {b}.", ("{a:main}; deshalb {b:inv}.", "{a:main}, sodass {b:sub}.")),
    (3, "{a}, while {b}.", ("{a:main}, während {b:sub}.", "Während {b:sub}, {a:inv}.")),
    (2, "It is true that {a}, but {b}.", ("Zwar {a:inv}, aber {b:main}.", "Obwohl {a:sub}, {b:inv}.")),
    (
        2,
        "We confirm that {a} and that {b}.",
        ("Wir bestätigen, dass {a:sub} und dass {b:sub}.", "Wir bestätigen: {a:main}, und {b:main}."),
    ),
    (1, "First {a}, and then {b}.", ("Zuerst {a:inv}, und dann {b:inv}.", "Erst {a:inv}, dann {b:inv}.")),
)


def _table(text: str) -> tuple[tuple[str, ...], ...]:
    """Entries between commas, columns between slashes."""
    return tuple(tuple(column.strip() for column in entry.split("/")) for entry in text.split(","))


# English, German, gender (m f n)
NOUNS = {
    "event": _table("""
        meeting/Treffen/n, conference/Konferenz/f, concert/Konzert/n, exhibition/Ausstellung/f, course/Kurs/m,
        lecture/Vortrag/m, exam/Prüfung/f, festival/Festival/n, wedding/Hochzeit/f, trial/Prozess/m,
        workshop/Workshop/m, competition/Wettbewerb/m, celebration/Feier/f, auction/Versteigerung/f, election/Wahl/f,
        game/Spiel/n, trip/Reise/f, race/Rennen/n, trade fair/Messe/f, rehearsal/Probe/f, session/Sitzung/f,
        performance/Aufführung/f, tour/Führung/f"""),
    "building": _table("""
        museum/Museum/n, hotel/Hotel/n, school/Schule/f, hospital/Krankenhaus/n, library/Bibliothek/f, office/Büro/n,
        factory/Fabrik/f, train station/Bahnhof/m, airport/Flughafen/m, restaurant/Restaurant/n, bank/Bank/f,
        church/Kirche/f, theater/Theater/n, castle/Schloss/n, store/Geschäft/n, market/Markt/m, town hall/Rathaus/n,
        swimming pool/Schwimmbad/n, laboratory/Labor/n, embassy/Botschaft/f, university/Universität/f,
        pharmacy/Apotheke/f, movie theater/Kino/n, warehouse/Lager/n, tower/Turm/m"""),
    "vehicle": _table("""
        train/Zug/m, bus/Bus/m, ship/Schiff/n, ferry/Fähre/f, truck/Lastwagen/m, car/Auto/n, coach/Reisebus/m,
        night train/Nachtzug/m, freight train/Güterzug/m, boat/Boot/n, cab/Taxi/n"""),
    "goods": _table("""
        machine/Maschine/f, computer/Computer/m, book/Buch/n, bicycle/Fahrrad/n, piano/Klavier/n, table/Tisch/m,
        coat/Mantel/m, clock/Uhr/f, camera/Kamera/f, painting/Gemälde/n, bed/Bett/n, cupboard/Schrank/m, lamp/Lampe/f,
        phone/Telefon/n, suitcase/Koffer/m, ring/Ring/m, carpet/Teppich/m, chair/Stuhl/m, printer/Drucker/m,
        telescope/Fernrohr/n, package/Paket/n, engine/Motor/m, battery/Batterie/f,
        mirror/Spiegel/m, blanket/Decke/f"""),
    "document": _table("""
        report/Bericht/m, contract/Vertrag/m, letter/Brief/m, article/Artikel/m, manual/Handbuch/n, poem/Gedicht/n,
        novel/Roman/m, study/Studie/f, law/Gesetz/n, newspaper/Zeitung/f, form/Formular/n, dictionary/Wörterbuch/n,
        invoice/Rechnung/f, certificate/Urkunde/f, play/Theaterstück/n, message/Nachricht/f, plan/Plan/m,
        statement/Erklärung/f"""),
    "agent": _table("""
        company/Firma/f, ministry/Ministerium/n, team/Mannschaft/f, family/Familie/f, government/Regierung/f,
        teacher/Lehrerin/f, doctor/Ärztin/f, director/Direktor/m, engineer/Ingenieurin/f, mayor/Bürgermeister/m,
        author/Autorin/f, seller/Verkäufer/m, neighbor/Nachbarin/f, lawyer/Anwältin/f, customer/Kundin/f,
        tour guide/Reiseleiter/m, driver/Fahrer/m, researcher/Forscherin/f, club/Verein/m, orchestra/Orchester/n,
        commission/Kommission/f, tenant/Mieterin/f"""),
}

# English, German without ending
_ORIGINS = """French/französisch, Italian/italienisch, Japanese/japanisch, Dutch/niederländisch, Polish/polnisch,
    German/deutsch, """
_COLORS = "red/rot, blue/blau, white/weiß, black/schwarz, green/grün, yellow/gelb, "
_COMMON = "new/neu, old/alt, small/klein, large/groß, "
ADJECTIVES = {
    "event": _table(_COMMON + """
        annual/jährlich, international/international, important/wichtig, long/lang, public/öffentlich, next/nächst,
        last/letzt, first/erst, planned/geplant, traditional/traditionell, free/kostenlos"""),
    "building": _table(_COMMON + _ORIGINS + """
        famous/berühmt, modern/modern, public/öffentlich, central/zentral, beautiful/schön, municipal/städtisch,
        private/privat"""),
    "vehicle": _table(_COMMON + _COLORS + """
        fast/schnell, slow/langsam, next/nächst, last/letzt, first/erst, early/früh, full/voll, empty/leer"""),
    "goods": _table(_COMMON + _COLORS + _ORIGINS + """
        heavy/schwer, light/leicht, cheap/billig, beautiful/schön, broken/kaputt, used/gebraucht"""),
    "document": _table(_COMMON + _ORIGINS + """
        long/lang, short/kurz, important/wichtig, official/offiziell, secret/geheim, current/aktuell, first/erst,
        last/letzt, printed/gedruckt, unknown/unbekannt"""),
    "agent": _table(_ORIGINS + """
        new/neu, young/jung, old/alt, famous/berühmt, responsible/zuständig, friendly/freundlich, small/klein,
        successful/erfolgreich, well-known/bekannt"""),
}  # fmt: skip

# Things that are counted: English and German plural, the latter nominative and accusative
ITEMS = _table("""
    chairs/Stühle, books/Bücher, tables/Tische, lamps/Lampen, bottles/Flaschen, eggs/Eier, tickets/Fahrkarten,
    apples/Äpfel, candles/Kerzen, plates/Teller, knives/Messer, towels/Handtücher, stamps/Briefmarken, shirts/Hemden,
    keys/Schlüssel, batteries/Batterien, boxes/Kisten, screws/Schrauben, flowers/Blumen, glasses/Gläser,
    pencils/Bleistifte, bicycles/Fahrräder, shoes/Schuhe, pictures/Bilder, envelopes/Umschläge, computers/Computer,
    magazines/Zeitschriften""")

PEOPLE = words("""
    Anna Paul Maria Peter Laura David Sophie Thomas Julia Simon Emma Daniel Clara Martin Nina Robert Lena Felix Sarah
    Oliver Eva Leon Ida Max Marie Anton Helena Tim Lisa Jonas Hanna Oscar Vera Victor Olga Samuel Rosa Adrian Carla
    Benjamin Frida Hugo Mona Noah Alice Emil Greta Richard Edith Walter""")

# Countries that have an article in German: territory code -> dative, for `in` and `aus`
COUNTRIES_WITH_ARTICLE = {
    "AE": "den Vereinigten Arabischen Emiraten", "BS": "den Bahamas", "CF": "der Zentralafrikanischen Republik",
    "CH": "der Schweiz", "DO": "der Dominikanischen Republik", "GB": "dem Vereinigten Königreich", "IQ": "dem Irak",
    "IR": "dem Iran", "KM": "den Komoren", "LB": "dem Libanon", "MD": "der Republik Moldau", "MN": "der Mongolei",
    "MV": "den Malediven", "NL": "den Niederlanden", "NE": "dem Niger", "PH": "den Philippinen", "SC": "den Seychellen",
    "SD": "dem Sudan", "SK": "der Slowakei", "SS": "dem Südsudan", "TD": "dem Tschad", "TR": "der Türkei",
    "UA": "der Ukraine", "US": "den Vereinigten Staaten", "XK": "dem Kosovo", "YE": "dem Jemen", "EH": "der Westsahara",
}  # fmt: skip
ENGLISH_ARTICLE = frozenset(words("AE BS CF DO GB KM MV NL PH SC US"))
# Islands and groups that take `auf`, regions and names that need more than a word: left out.
LEFT_OUT_COUNTRIES = frozenset(
    words("""
    AC AG AI AQ AS AW AX BB BL BM BQ BV CC CD CG CI CK CP CQ CU CW CX CY DG DM EA EU EZ FK FO GD GG GM GP GS GU HK HM
    IC IM IO JE KN KY LC MF MH MM MO MP MQ MS MT NF NR NU PM PN PS QO RE SB SH SJ ST SX TA TC TF TK TT TV UM UN VA VC
    VG VI WF XA XB YT ZZ""")
)
