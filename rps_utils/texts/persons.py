"""What may be shown of a text from elsewhere: nothing that points to a person."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import pairwise

from rps_utils.texts.cells import NUMBER, is_formula

LONGEST_SHOWN = 60
MOST_DIGITS = 6  # in all: a date has eight, a telephone number seven or more
HIDDEN = "(not shown)"


# Words that may stand in a message or a table whoever wrote them: the study's own, codes, units, what is drawn.
def words(text: str) -> list[str]:
    """Return the words of a text, in small letters: runs of letters and digits of any script."""
    return re.findall(r"[^\W_]+", text.casefold())


# Words that may stand in a message or a table whoever wrote them: the study's own, codes, units, what is drawn.
WORDS = frozenset(
    words("""
    patient id image mask ct split time months event age sex grade size centre center data kind status stage side site
    training validation test train private public synthetic phantom columns column reference map sha256 risk margin
    yes no true false none nan null na inf unknown missing other new old positive negative present absent normal
    male female man woman alive dead death died censored recurrence relapse local distant progression free
    left right upper lower low intermediate high mild moderate severe early late and or of the not with without in
    tumour tumor node nodes lesion mass gtv ctv ptv roi structure segment label neoplasm sarcoma primary metastasis
    liposarcoma leiomyosarcoma dedifferentiated differentiated well moderately poorly pleomorphic undifferentiated
    myxoid spindle cell solitary fibrous schwannoma ddlps wdlps lms ups mpnst sft retroperitoneal retroperitoneum
    abdomen pelvis aorta abdominal thoracic infrarenal ivc vena cava inferior liver kidney spine body external
    day days week weeks month year years yr yrs mm cm ml hu kg kv percent gy
    images masks nii gz csv nrrd dcm dicom seg rtstruct sheet sheet1 table clinical patients
    date birth name surname birthdate dob mrn address phone email
    baseline diameter volume histology location surgery resection radiotherapy chemotherapy neoadjuvant adjuvant
    again first line there here groups patients events
    multifocal necrosis contrast phase dfs lrfs rfs os follow up followup text number code group type
    """)
)
MONTHS = (
    r"(?:jan(?:uary|uar)?|feb(?:ruary|ruar)?|mar(?:ch)?|märz|apr(?:il)?|ma[yi]|jun[ei]?|jul[yi]?|aug(?:ust)?"
    r"|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)\.?"
)
DATE = re.compile(
    r"(?<!\d)(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))(?!\d)"
    r"|(?<!\d)(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?<!\d)(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])(?:19|20)\d\d(?!\d)"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)?[-. ]*{MONTHS}[-, ]*\d{{2,4}}\b"
    rf"|\b{MONTHS}[-. ]*\d{{1,2}}(?:st|nd|rd|th)?[-, ]+\d{{2,4}}\b",
    re.IGNORECASE,
)
MAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
STREET = re.compile(
    r"\d+\w?[, ]+(?:[^\W\d]+[. ]+){1,3}(?:street|st|road|rd|avenue|ave|lane|drive|square)\b"
    r"|[^\W\d]+(?:stra(?:ß|ss)e\b|str\.|(?:weg|platz|gasse|allee)\s*\d)|\b(?:rue|via|calle|p\.? ?o\.? box)\s",
    re.IGNORECASE,
)
TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|Mme|Signora?|Señora?|[A-Z](?=\.))\b\.?\s*[A-Z][^\W\d_]+")
DIGITS = re.compile(r"\d(?:[\s/()-]*\d){6,}")  # seven digits, however they are parted
MOST_PLAIN_DIGITS = 7  # of a whole number in a cell: cells a litre, thrombocytes


def personal_kind(text: str) -> str:
    """Say what in a text can point to a person, in words; empty where nothing does by its form.

    Dates in many spellings, numbers of seven digits and more, mail addresses, streets, names as DICOM writes them
    (``Doe^Jane``) or after a title, and two capitalised words side by side that are no words of this field. A single
    word that happens to be a name has no form by which it could be told.
    """
    forms = (
        (DATE, "a date"),
        (MAIL, "a mail address"),
        (STREET, "an address"),
        (TITLE, "a name"),
    )
    for pattern, kind in forms:
        if pattern.search(text):
            return kind
    if not _is_plain_number(text) and DIGITS.search(text):
        return "a long number"
    return "a name" if _has_name(text) else ""


def _is_plain_number(text: str) -> bool:
    """Tell whether a text is one number, with not too many digits before the point: no telephone number, no id."""
    return bool(NUMBER.fullmatch(text)) and len(re.split("[.eE]", text.lstrip("+-"))[0]) <= MOST_PLAIN_DIGITS


def _has_name(text: str) -> bool:
    if re.search(r"[^\W\d_]{2,}\s*\^|\^\s*[^\W\d_]{2,}", text):
        return True
    parts = re.findall(r"[^\W\d_][^\W\d_'’]*", text)
    return any(all(map(_is_like_a_name, pair)) and max(map(len, pair)) > 3 for pair in pairwise(parts))


def _is_like_a_name(word: str) -> bool:
    return (
        len(word) > 1 and word[0].isupper() and (word[1:].islower() or word.isupper()) and word.casefold() not in WORDS
    )


def shown(text: str, known: Iterable[str] = ()) -> str:
    """Return a text for a message if nothing in it can point to a person; otherwise its kind.

    Parameters
    ----------
    text : str
        From a file of somebody else.
    known : iterable of str
        Further texts that may be shown, and what comes close to them (``colums`` for ``columns``).

    Returns
    -------
    str
        The text where it is empty, one of `known`, or made of short numbers, short codes (``G2``, ``RPS-001``) and
        words of this field. Else what it is, and that it is not shown.
    """
    known = list(known)
    if not text or text in known or (_is_harmless(text) and len(text) <= LONGEST_SHOWN):
        return text
    if get_close_matches(text, known, 1, 0.85):
        return text
    return f"{personal_kind(text) or kind_of(text)} {HIDDEN}"


def unless_personal(text: str) -> str:
    """Return a text of the user's own tables for a message, unless its form points to a person: then its kind."""
    kind = personal_kind(text)
    return f"{kind} {HIDDEN}" if kind else text


def kind_of(text: str) -> str:
    """Say what a text is without repeating it."""
    if is_formula(text):
        return "a formula"
    return f"{'a number' if NUMBER.fullmatch(text) else 'text'} of {len(text)} characters"


def _is_harmless(text: str) -> bool:
    if not text.isprintable() or text.startswith(("=", "@")) or personal_kind(text):
        return False
    if (NUMBER.fullmatch(text) and re.search("[.eE]", text)) or is_pseudonym(text):
        return len(text) <= 2 * MOST_DIGITS
    return len(re.findall(r"\d", text)) <= MOST_DIGITS and all(map(_is_harmless_word, words(text)))


def _is_harmless_word(word: str) -> bool:
    # Digits, with at most two letters around: 61, 5mm, G2, P12, 1e5.
    return (
        word in WORDS
        or bool(re.fullmatch(r"[a-z]{0,2}\d{1,6}[a-z]{0,2}\d{0,2}|[a-z]{1,2}", word))
        or is_pseudonym(word)
    )


PSEUDONYMS = frozenset(
    words("""
    anon anonym anonymous anonymized anonymised deidentified removed patient pat pt case subject subj sub study series
    test id no nr phantom synthetic sts rps crlm scan
    """)
)


def is_pseudonym(text: str, study_id: str = "") -> bool:
    """Tell whether a text has the form of a study's id: ``P1``, ``ANON12``, ``RPS-001``, ``study_0007``.

    Parameters
    ----------
    text : str
    study_id : str
        The patient's id in the study. It is one itself, and its letters may stand in others.

    Notes
    -----
    Digits are needed, five in a row at most. Letters count as harmless if they are one or two, a word such as
    ``anon`` or ``case``, up to five without a vowel, or those of the study's id. ``Smith1`` and ``DOE^JOHN2`` are
    names.
    """
    plain = "".join(words(text))
    if plain and plain == "".join(words(study_id)):
        return True
    parts = re.findall(r"[^\W\d_]+|\d+|[^\w\s.-]", text.strip("^ ").casefold())
    own = set(re.findall(r"[^\W\d_]+", study_id.casefold()))
    letters = [part for part in parts if not part.isdigit()]
    digits = [part for part in parts if part.isdigit()]
    formed = not (DATE.search(text) or re.fullmatch(r"\d{3}-\d{2}-\d{4}", text))
    short = bool(digits) and all(len(part) <= 5 for part in digits) and sum(map(len, digits)) <= 2 * MOST_DIGITS
    return formed and short and all(_may_stand_in_id(part, own) for part in letters)


def _may_stand_in_id(letters: str, own: set[str]) -> bool:
    known = letters in PSEUDONYMS or letters in own
    return known or bool(re.fullmatch(r"[a-z]{1,2}|[bcdfghjklmnpqrstvwxz]{3,5}", letters))
