"""The package's samples of public sets, made again from the files their makers publish:

    python tests/make_samples.py DATA [OUT]      (needs babel, rjieba)

DATA holds ntrex/ (a clone of MicrosoftTranslator/NTREX), mbpp/mbpp_release_v1.jsonl (of amazon-science/mxeval),
cogs/train.tsv (of najoungkim/COGS) and cc-cedict/cedict_1_0_ts_utf-8_mdbg.txt.gz (of MDBG, release of 2019-10-25). OUT
is the package's folder by default. Equal files in, equal bytes out; the notes and licences beside them are not made.
"""

import gzip
import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import rjieba
from babel import Locale
from babel.core import get_global

from semhub_utils.spokes import code, languages, semantics, translation
from semhub_utils.spokes.files import SAMPLES, lines, objects, read_text
from semhub_utils.spokes.items import Items

DOCUMENTS, OF_EACH, PROGRAMS, LINES = 84, 3, 300, 300
LOCALES = {"english": "en", "spanish": "es", "chinese": "zh", "german": "de", "french": "fr"}


def write(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", "utf-8", newline="\n")


def news(data: Path, out: Path) -> None:
    """OF_EACH sentences of each of DOCUMENTS documents: those that share a word with the English in the fewest
    languages, as sentences that share one are not compared; and the documents that have most of these."""
    texts = {name: read_text(data / side.files[0]).splitlines() for name, side in languages.NTREX.items()}
    names, by_document = read_text(data / "ntrex/DOCUMENT_IDS.tsv").split(), defaultdict(list)

    def shares(k: int) -> int:
        words = {name: languages.words_compared(of[k]) for name, of in texts.items()}
        return sum(bool(words["english"] & own) for name, own in words.items() if name != "english")

    for k, name in enumerate(names):
        by_document[name].append((shares(k), k))
    best = {name: sorted(of)[:OF_EACH] for name, of in by_document.items()}
    chosen = sorted(best, key=lambda name: (sum(n for n, _ in best[name]), name))[:DOCUMENTS]
    kept = sorted(k for name in chosen for _, k in best[name])
    for name, side in languages.NTREX.items():
        write(out / side.files[0], [texts[name][k].strip() for k in kept])
    write(out / "ntrex/DOCUMENT_IDS.tsv", [names[k] for k in kept])


def programs(data: Path, out: Path) -> None:
    """PROGRAMS problems drawn among those that parse, without their tests."""
    rows = []
    for _, row in objects(data / code.MBPP.files[0], Items()):
        if code.parse(row["prompt"] + row["canonical_solution"]):
            rows.append({name: row[name] for name in ("task_id", "prompt", "canonical_solution")})
    kept = sorted(random.Random(0).sample(range(len(rows)), PROGRAMS))
    write(out / code.MBPP.files[0], [json.dumps(rows[k], ensure_ascii=False) for k in kept])


def forms(data: Path, out: Path) -> None:
    """LINES sentences with their forms: half of them with two names that can change places, the others with a name to
    read up to; of no last words, no two names and no verb more than their share, as these are what is counted."""
    read = [(row, semantics.meaning_of(place, row)) for place, row in lines(data / semantics.COGS.files[0], Items())]
    usable = [(row, m) for row, m in read if isinstance(m, semantics.Meaning) and len(m.sentence.split()) < 13]
    random.Random(0).shuffle(usable)
    often, builds = Counter(), Counter(m.template for _, m in usable)
    kept: list[str] = []
    for wanted, n, most in ((True, LINES // 2, 3), (False, LINES, 5)):
        for row, m in usable:
            parts = m.conjuncts
            two = len(m.names) == 2 and " AND " in m.form and any(m.turned([one, *parts]) for one in parts)
            ends = {name: m.sentence.split().index(name) for name, _ in m.names}
            cues = [semantics.cue(m, name, m.sentence.split()[:end]) for name, end in ends.items() if end]
            if two != wanted or not cues or builds[m.template] < 40 or row in kept or len(kept) == n:
                continue
            counted = [*cues, m.verb, " and ".join(sorted(dict(m.names)))] if two else [*cues, m.verb]
            if all(often[of] < most for of in counted):
                often.update(counted)
                kept.append(row)
    write(out / semantics.COGS.files[0], sorted(kept))


def names(out: Path) -> set[str]:
    """Countries with the language that is official there, if it is the only one; languages, months and days: their
    names in every language as CLDR has them. `next`: what a question about the name asks for."""
    locales = {name: Locale(code) for name, code in LOCALES.items()}
    spoken = get_global("territory_languages")
    official = {
        land: [key for key, of in some.items() if of["official_status"] in ("official", "de_facto_official")]
        for land, some in spoken.items()
    }
    found = []
    for land, keys in sorted(official.items()):
        alone = len(keys) == 1 and all(keys[0] in of.languages for of in locales.values())
        if alone and len(land) == 2 and land.isalpha():
            found.append(("country", land, keys[0], [of.territories.get(land) for of in locales.values()]))
    for key in sorted({key for _, _, key, _ in found}):
        found.append(("language", key, "", [of.languages.get(key) for of in locales.values()]))
    for kind, size in (("month", 12), ("day", 7)):
        first = 1 if kind == "month" else 0
        for k in range(size):
            said = [getattr(of, f"{kind}s")["stand-alone"]["wide"][k + first] for of in locales.values()]
            found.append((kind, str(k + first), str((k + 1) % size + first), said))
    rows = ["\t".join((kind, key, after, *said)) for kind, key, after, said in found if all(said)]
    write(out / "cldr/names.tsv", ["\t".join(("kind", "key", "next", *LOCALES)), *rows])
    return {row.split("\t")[3 + list(LOCALES).index("chinese")] for row in rows}


def entries(data: Path, out: Path, more: set[str]) -> None:
    """The entries of all words that stand in the Chinese sentences or among the book's concepts."""
    text = read_text(out / languages.NTREX["chinese"].files[0])
    words = {word for word, *_ in rjieba.tokenize(text)} | {c.words["chinese"] for c in translation.concepts()} | more
    words |= {entry for entry in languages.world_dictionary("zh")}
    with gzip.open(data / languages.CEDICT.files[0], "rt", encoding="utf-8") as file:
        rows = [row.rstrip("\n") for row in file]
    write(out / languages.CEDICT.files[1], [row for row in rows if row[0] == "#" or row.split()[1] in words])


def main(data: Path, out: Path = SAMPLES) -> None:
    news(data, out)
    programs(data, out)
    forms(data, out)
    entries(data, out, names(out))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
