"""Wording: every sentence in every language, whole; letters that the source's character set holds; a site's own file."""

from __future__ import annotations

import copy
import json
import pickle
import re
import string
from dataclasses import asdict
from pathlib import Path

import objects
import pytest
from names import NAMES
from reports import GAP, KINDS, MANIFEST, items, make, parsed, result, sentences, study, tool, written

from listener.isolation import Isolated
from models import registry
from pipeline import language
from pipeline.decode import decode
from pipeline.language import ENGLISH, FOLDER, LanguageError, Said, listed, packed, said, unpacked
from pipeline.records import Choice, PassedOver, Series
from scripts.model_card import LIMITS_OF_OTHERS

GERMAN = language.read("de")
ROOT = Path(__file__).parent.parent

STOP = frozenset(  # without those that are German, too
    re.findall(
        r"\w+",
        """the and of is are not no with for from which where there this that these other more most likely found sign see best read reads
        model series slice slices image images frame study weighted head tumour answer result unsure certainty high low possibilities
        outline brain only nothing else learned variant weights input""",
    )
)


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def fields(key: str, forms: language.Forms) -> set[str]:
    return {name for form in forms[:2] for _, name, _, _ in string.Formatter().parse(form) if name} - {"count"}


def own(folder: Path, old: str, new: str, of: str = "de") -> Path:
    """A site's file: a built-in one with something else in it."""
    text = (FOLDER / f"{of}.toml").read_text()
    assert text.count(old) == 1, old
    path = folder / "own.toml"
    path.write_text(text.replace(old, new))
    return path


def test_every_key_is_used_and_every_key_used_is_there() -> None:
    """Code names exactly the keys that the English file has, but for those whose key is put together."""
    code = "\n".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py") if path.name != "language.py")
    named = set(re.findall(r'"([a-z]+\.[a-z0-9_]+)"', code))
    put_together = {key for key in ENGLISH.sentences if key.startswith(("stack.", "lists."))}
    assert set(re.findall(r'said\("([^"]+)"', code)) <= ENGLISH.sentences.keys()
    assert ENGLISH.sentences.keys() - named - put_together == set()


def test_both_languages_have_the_same_keys_and_fields() -> None:
    """German says what English says, with the same fields in every text."""
    assert GERMAN.sentences.keys() == ENGLISH.sentences.keys()
    assert [key for key in ENGLISH.sentences if fields(key, GERMAN.sentences[key]) != fields(key, ENGLISH.sentences[key])] == []


def test_nothing_in_the_german_file_is_english() -> None:
    """No text of the German file holds an English word, so no reason and no remark does."""
    texts = [form for forms in GERMAN.sentences.values() for form in forms[:2]] + list(GERMAN.texts.values())
    assert [text for text in texts if words(re.sub(r"{\w+}", "", text)) & STOP] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_result_in_german(kind: str, tmp_path: Path) -> None:
    """A German Summary holds no English word in sentences, headings or names of concepts, and dciodvfy finds no error in it."""
    (summary, *_) = result(tmp_path, kind, GERMAN)[1]
    ds = parsed(summary)
    meanings = [item.ConceptNameCodeSequence[0].CodeMeaning for item in (ds, *items(ds)) if item.get("ConceptNameCodeSequence")]
    told = [sentence for sentence in sentences(summary) if sentence != MANIFEST.limits[0].replace("–", "-")]  # nobody translated that
    assert [text for text in (*told, *meanings, ds.SeriesDescription) if words(text) & STOP] == []
    (path,) = written((summary,), tmp_path)
    assert "Error" not in tool("dciodvfy", path)


def test_the_bundled_model_speaks_german() -> None:
    """Every label, limit and word of the bundled model has its German, and so have the limits of one that learnt from other data."""
    manifest = registry.read("brain_tumor_4class")
    labels = [label.meaning[:1].lower() + label.meaning[1:] for label in manifest.labels]
    own_words = (manifest.words.finding, manifest.words.absent, manifest.body_part, *labels, *manifest.limits, *LIMITS_OF_OTHERS)
    assert [text for text in own_words if text not in GERMAN.texts] == []


def test_german_sentences(tmp_path: Path) -> None:
    """Finding, place, reason and numbers are told as a German radiologist reads them."""
    told = sentences(make(study(tmp_path), language=GERMAN)[0])
    assert told[0] == "Hirntumor gefunden, Sicherheit hoch (99 %): am ehesten Gliom (97 %)."
    assert told[1] == "Am besten zu sehen: Serie 3, Bild 2; danach die Bilder 3 und 1."
    assert "Nicht gelesen: Serie 4 (MR): T2-gewichtet, nicht T1-gewichtet." in told
    assert GERMAN(GAP) == "Im Stapel fehlen 2 Schichten: eine Lücke von 18,0 mm, wo Schichten 6,0 mm auseinanderliegen."


def test_the_summary_says_its_language(tmp_path: Path) -> None:
    """The first item of a Summary is its language by RFC 5646; code values are the same in every language, the Measurements English."""
    of = study(tmp_path)
    english, german = make(of), make(of, language=GERMAN)
    for documents, code in ((english, "en"), (german, "de")):
        first = items(parsed(documents[0]))[0]
        spoken = first.ConceptCodeSequence[0]
        assert (first.ConceptNameCodeSequence[0].CodeValue, first.RelationshipType) == ("121049", "HAS CONCEPT MOD")
        assert (spoken.CodeValue, spoken.CodingSchemeDesignator) == (code, "RFC5646")
    values = [
        [item.ConceptNameCodeSequence[0].CodeValue for item in items(parsed(summary)) if "ConceptNameCodeSequence" in item]
        for summary, _ in (english, german)
    ]
    assert values[0] == values[1]
    assert english[1].data == german[1].data


def test_another_language_is_another_document(tmp_path: Path) -> None:
    """A Summary in other words has a UID and a series of its own; the same words give the same bytes."""
    of = study(tmp_path)
    other = language.read(str(own(tmp_path, '"Verdacht auf {label}."', '"V. a. {label}."')))
    made = [make(of, language=spoken)[0] for spoken in (ENGLISH, GERMAN, other)]
    assert len({document.sop_instance_uid for document in made}) == 3
    assert len({parsed(document).SeriesInstanceUID for document in made}) == 3
    assert make(of, language=GERMAN)[0].data == made[1].data


@pytest.mark.parametrize(
    ("terms", "held"),
    [
        *((terms, True) for terms in ("ISO_IR 100", "ISO_IR 101", "ISO_IR 148", "ISO_IR 192", "GB18030")),
        ("ISO 2022 IR 100\\ISO 2022 IR 101", True),
        *((terms, False) for terms in (None, "ISO_IR 6", "ISO_IR 126", "ISO_IR 144", "ISO_IR 138", "ISO_IR 13", "no such set")),
        *((terms, False) for terms in ("\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "ISO 2022 IR 6\\ISO 2022 IR 100")),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", False),
        ("ISO_IR 192\\ISO_IR 100", False),
    ],
)
@pytest.mark.filterwarnings("ignore:.*encoding")
def test_umlauts_where_every_encoding_holds_them(terms: str | None, held: bool, tmp_path: Path) -> None:
    """Umlauts are written where each encoding of the source's set has them, and else as ae, oe, ue and ss in plain ASCII."""
    name = next((known.text for known in NAMES.values() if known.terms == terms), "Doe^Jane")
    (summary,) = make(study(tmp_path, SpecificCharacterSet=terms, PatientName=name), "declined", language=GERMAN)
    ds = parsed(summary)
    spelt = "KI-Ergebnis, nicht ärztlich geprüft. " if held else "KI-Ergebnis, nicht aerztlich geprueft. "
    assert f"{spelt}Nur für die Forschung, kein Medizinprodukt.".replace("für", "für" if held else "fuer") in sentences(summary)
    assert ds.ConceptNameCodeSequence[0].CodeMeaning == f"{spelt.rstrip('. ')}"
    assert all(item.TextValue.isascii() for item in items(ds) if item.ValueType == "TEXT") is not held
    assert ds.PatientName == name


def test_letters_that_nothing_stands_for(tmp_path: Path) -> None:
    """A language whose letters would be lost under the source's character set gives way to English, its UID and its tag, too."""
    greek = language.read(str(own(tmp_path, '"high"', '"υψηλή"', "en")))
    plain = study(tmp_path / "a", SpecificCharacterSet="ISO_IR 100")
    greeks = study(tmp_path / "b", SpecificCharacterSet="ISO_IR 126", PatientName=NAMES["greek"].text)
    assert make(plain, language=greek)[0].data == make(plain)[0].data
    assert "certainty υψηλή" in sentences(make(greeks, language=greek)[0])[0]


def test_another_name_of_a_language_is_another_document(tmp_path: Path) -> None:
    """The language's own name stands in the Summary, so the UID hangs on it, too."""
    low = language.read(str(own(tmp_path, 'name = "Deutsch"', 'name = "Platt"')))
    of = study(tmp_path)
    assert make(of, language=low)[0].sop_instance_uid != make(of, language=GERMAN)[0].sop_instance_uid


def test_said_survives_a_journey() -> None:
    """What was said keeps its words through pickle, a deep copy and the JSON of the decoder's process; for others it is a plain text."""
    reason = said("reasons.mixed", reason=said("reasons.coarse", pixel=10.0, coarsest=5.0), count=3, total=24)
    parts = listed([reason, "b", "c"], "and")
    travelled = [pickle.loads(pickle.dumps(parts)), copy.deepcopy(parts), unpacked(json.loads(json.dumps(packed((parts,)))))[0]]
    assert all(isinstance(one, Said) and one == parts and GERMAN(one) == GERMAN(parts) for one in travelled)
    assert GERMAN(parts) == "Pixel von 10,0 mm, gröber als 5,0 mm (3 von 24 Bildern), b und c"
    choice = Choice(None, reason, (PassedOver("1", 1, "MR", reason),))
    assert json.loads(json.dumps(asdict(choice)))["reason"] == "pixels of 10.0 mm, coarser than 5.0 mm (3 of 24 images)"


@pytest.mark.parametrize("packed_so", [{"key": "no.such", "fields": {}}, {"key": "remarks.mm", "fields": {}}, {"key": "remarks.mm"}, {}])
def test_what_nobody_says_is_refused(packed_so: object) -> None:
    """A decoder that was made to answer with other words is not believed."""
    with pytest.raises(ValueError, match="no such words"):
        unpacked(packed_so)


def test_remarks_come_back_from_the_decoder_with_their_words(tmp_path: Path) -> None:
    """A remark of the decoder's process can be said in German, as one made here can."""
    places = (0.0, 5.0, 10.0, 20.0)
    instances = tuple(objects.instance(tmp_path, number=n, ImagePositionPatient=[0, 0, z]) for n, z in enumerate(places, 1))
    with Isolated(1 << 30, 60) as decoder:
        there, here = decoder(Series("1", instances)).remarks, decode(Series("1", instances)).remarks
    assert there == here != ()
    assert [GERMAN(remark) for remark in there] == [GERMAN(remark) for remark in here]
    assert "fehlt 1 Schicht" in " ".join(map(GERMAN, there))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('suspected = "', 'suspekted = "', "conclusion.suspekted: no such key; did you mean conclusion.suspected?"),
        ('suspected = "Verdacht auf {label}."\n', "", "conclusion.suspected: missing; translate 'Suspected {label}.'"),
        ('"Verdacht auf {label}."', '"Verdacht auf {lable}."', "conclusion.suspected: no such field {lable}; its fields are {label}"),
        ('"Verdacht auf {label}."', '"Verdacht."', "conclusion.suspected: lacks the field {label}, without which it says less"),
        ('"Verdacht auf {label}."', '"Verdacht auf {label:>9}."', "conclusion.suspected: no such field {label} as it is written there"),
        ('"Verdacht auf {label}."', '"Verdacht auf {label.key}."', "conclusion.suspected: no such field {label.key} as it is written"),
        ('"Verdacht auf {label}."', '"Verdacht auf {label."', "conclusion.suspected: expected '}' before end of string"),
        ('"Verdacht auf {label}."', '{one = "V", other = "W"}', "conclusion.suspected: has two forms, and nothing is counted there"),
        ('"Verdacht auf {label}."', '{one = "V"}', "conclusion.suspected: two forms are written {one"),
        ('"Verdacht auf {label}."', '""', "conclusion.suspected: is no text of one line"),
        ('"Verdacht auf {label}."', "7", "conclusion.suspected: is no text of one line"),
        ('"Verdacht auf {label}."', '"Verdacht\\nauf {label}."', "conclusion.suspected: is no text of one line"),
        ('"Methode"', f'"{65 * "M"}"', "headings.method: has 65 characters, and a heading may have 64; shorten it"),
        ('language = "de"', 'language = "German"', "language: 'German' is no language tag; write it as RFC 5646 does"),
        ('language = "de"\n', "", "language: missing; a file begins with language ="),
        ("\n[texts]", '\nextra = "1"\n[texts]', "remarks.extra: no such key; did you mean"),
        ("\n[texts]", "\ntexts [", "is no TOML"),
    ],
)
def test_a_broken_file_is_refused(old: str, new: str, why: str, tmp_path: Path) -> None:
    """A site's file that lacks something, or has what is not known, is refused with its name, the key and how to mend it, in one line."""
    path = own(tmp_path, old, new)
    with pytest.raises(LanguageError) as refused:
        language.read(str(path))
    assert str(refused.value).startswith(f"{path}: {why}") and "\n" not in str(refused.value)


def test_a_language_that_is_not_there(tmp_path: Path) -> None:
    """A name that is none and a file that is none are refused with what there is."""
    with pytest.raises(LanguageError, match="there is no language 'fr'; name de or en, or the path"):
        language.read("fr")
    with pytest.raises(LanguageError, match=r"none\.toml: cannot be read \(No such file or directory\); name de or en, or another file"):
        language.read(str(tmp_path / "none.toml"))


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    """A site's file is spoken as it is written, forms for one and for several, and words of its own models."""
    path = own(tmp_path, "\n[texts]", '\n[texts]\n"a fracture" = "eine Fraktur"')
    path.write_text(path.read_text().replace('"Verdacht auf {label}."', '"V. a. {label}."'))
    mine = language.read(str(path))
    assert mine(said("conclusion.suspected", label="a fracture")) == "V. a. eine Fraktur."
    assert [mine(said("remarks.no_pictures", count=n, total=3)).split()[6] for n in (1, 2)] == ["enthält", "enthalten"]
