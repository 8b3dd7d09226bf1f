"""Names of encodings that pages and mails give themselves: which of them are believed, and what they mean.

Only encodings of text in the wild are believed: Python knows codecs that are none (`punycode` takes quadratic time). As
browsers do, Latin-1 is read as Windows-1252, which it mostly is (https://encoding.spec.whatwg.org/#names-and-labels).
"""

from __future__ import annotations

import codecs
import re

OF_TEXT = re.compile(
    r"(windows|cp|ibm|iso|koi8|gb|big5|euc|shift|s?jis|ms|x-|mac|latin|tis|ks_c|hz|johab|viqr|viscii|tcvn|l[1-9])"
    r"[\w.:-]{0,30}",
    re.IGNORECASE,
)
READ_AS = {"iso8859-1": "cp1252", "ascii": "", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030"}
READ_AS |= {"shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs", "iso8859-11": "cp874", "tis-620": "cp874"}


def known(name: str) -> str:
    """A Python codec for text that is not Unicode; empty if there is none, or if the text has to tell it itself."""
    if not OF_TEXT.fullmatch(name):
        return ""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return ""
    return READ_AS.get(found, found)
