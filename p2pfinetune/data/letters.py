"""What text in each language looks like, as far as it tells one encoding from another.

An encoding is guessed by reading the bytes in each, and asking in which language that could have been written. For an
alphabet two things are known of a language: its letters beyond ASCII, from frequent to rare, and, in Latin script, some
of its commonest words. For the languages of East Asia it is the commonest characters. The orders are rough, and that is
enough: a wrong reading is not a little unlikely but has letters that the language lacks, signs inside words, capitals
at their ends. All tables are written by hand; none is derived from somebody's corpus.

Orders and no frequencies: the letters of a language fall off in roughly one way (Zipf), so a place in the order stands
for a likelihood that `guess` works out, and a table can be checked by anybody who reads the language.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alphabet:
    """A language that is written in letters."""

    letters: str
    """Beyond ASCII, in small print, from frequent to rare."""
    words: frozenset[str] = frozenset()
    """Common and short, in small print."""
    latin: bool = True
    flat: bool = False
    """Whether the letters stand in no order: for what is no one language."""
    before: float = 0.0
    """Nats before anything is read."""


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _latin(letters: str, words: str) -> Alphabet:
    return Alphabet(letters, _words(words))


def _other(letters: str) -> Alphabet:
    return Alphabet(letters, latin=False)


WESTERN = {
    "English": Alphabet(
        "éèêçñöüïàáâäóíôëåæøœ",
        _words("the of and to in is it that was for on with as at by this be are from or not you have"),
        flat=True,
    ),
    "German": _latin(
        "üäöß",
        "der die und das in den von zu mit ist für auf dem nicht ein eine sich auch es an als über wird "
        "können im des wie so aus wenn oder hat nach bei um noch nur einen einem einer werden war sind wir "
        "ich sie er man aber durch",
    ),
    "French": _latin(
        "éèàêçôâûîùëïœæ",
        "de la le et les des en un une du dans est que pour qui sur au par il pas plus être à été où même dû "
        "très ce se ne sa son avec cette mais ou nous vous ils elle je si leur aux ces tout fait peut entre "
        "comme sans ont doit",
    ),
    "Spanish": _latin(
        "óíáéñúü",
        "de la que el en los del se las por un para con no una su al es lo como más está también día año qué "
        "sí él ha pero sus le ya o fue este entre cuando todo esta ser son dos era hasta desde muy sin sobre "
        "me puede ese esa",
    ),
    "Portuguese": _latin(
        "ãçáéíóêúõâàô",
        "de que e do da em um para com não uma os no se na por mais as dos como mas foi ao são está você até "
        "já é à ele sua ou quando muito nos eu pelo pela isso ela entre depois sem mesmo aos seus quem nas "
        "esse eles esta este ser tem",
    ),
    "Italian": _latin(
        "èàòùéì",
        "di che la il un per in una sono mi si lo non con ma le del della è più può perché così già nel gli "
        "alla alle al dal dalla dei degli delle questo questa anche ha ho se cui tra suo loro dopo senza come "
        "essere nella sul o",
    ),
    "Catalan": _latin(
        "óàéèíòúçïü·",
        "de la que el els les en un una per amb és no del al i més també són aquest com a s'ha ser hi als seu "
        "seva ho pel aquesta o sense quan molt fins entre ha han està té",
    ),
    "Dutch": _latin(
        "ëéïóèöü",
        "de het een van en in is dat op te zijn met voor niet aan er om ook als één geen naar hij ze wij kan "
        "worden wordt deze dit heeft bij uit u uw die maar dan zou moet veel over meer nog wel door",
    ),
    "Swedish": _latin(
        "äåöé",
        "och i att det som en på är av för med till den har de inte om ett från så när också man kan var sig "
        "mot jag han hon vi du efter eller bara detta vid denna alla ut upp över måste",
    ),
    "Danish": _latin(
        "åøæé",
        "og i at det er en til af på for med den der som ikke har et de også være så når ikkje eit frå både "
        "få jeg vi du han hun kan sig man om eller efter bare kun fra blev ved nu da over ud op må vil skal",
    ),
    "Finnish": _latin(
        "äöåšž",
        "ja on ei se että oli hän mutta ovat kun niin myös tai sen joka mitä jos vain nyt sitä ole voi olla "
        "tämä vielä kuin sekä tulee minä sinä me te he jo sillä kanssa jälkeen koska",
    ),
    "Icelandic": _latin(
        "áíðóöúþéæý",
        "og að í á er sem til við var um en það með fyrir af því ekki þá hann hún eru ég þú þetta eða frá "
        "hefur eins upp þegar svo voru hafa sér inn yfir eftir",
    ),
    "Western European": Alphabet("àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿßœªº", flat=True),
}
CENTRAL = {
    "Polish": _latin(
        "łęąóżśćńź",
        "i w na z do się nie to że jest jak o co po ale za od czy przez tego może są być już tak ją też ten "
        "ta te który która które tym dla jako więc tylko gdy gdzie był była było ich jego jej przed pod bez "
        "we ze oraz lub można nad mnie sobie",
    ),
    "Hungarian": _latin(
        "áéőöóíüűú",
        "a az és hogy nem is egy ez volt csak meg már van mint de még azt el ha lehet között után több ezt "
        "vagy kell be ki le fel olyan amely aki ami mely nagyon itt ott akkor minden sem szerint való voltak "
        "én te ő mi ti ők",
    ),
    "Czech": _latin(
        "íáěéřčžýšůúňťďó",
        "a se v na je že to s z do o i jako ale jsou která který když může není být podle před ve ze za od "
        "při pro po tak by byl byla bylo jsem jsme ten ta této tento jen nebo až už kde jak ani své jeho její "
        "které mezi pod nad bez tím",
    ),
    "Slovak": _latin(
        "áíčžýéšúľťňôďóäŕĺ",
        "a sa v na je že to s z do o i ako ale sú ktorá ktorý keď môže nie byť podľa alebo pri vo zo za od "
        "pre po tak by bol bola bolo som sme ten tá táto tento len až už kde ani svoje jeho jej ktoré medzi "
        "pod nad bez tým či iba",
    ),
    "Croatian": _latin(
        "čžšćđô",
        "i u je se na da su od za s a kao koji koja što ili iz ne bi će može više te nije ako kako još samo "
        "već bio bila bilo smo sam ste ga mu joj im ta taj to ova ovaj ovo nakon prije između po pod nad bez "
        "do tada gdje ni jer ima",
    ),
    "Slovenian": _latin(
        "čšž",
        "in je v na se da za so ki z s pa ne ali tudi kot po ni če več lahko še bi pri ter bil bila bilo sem "
        "smo niso to ta tega tem od do iz med brez pod nad ker kjer kako vse vsi že tako te jih mu ga jo ob "
        "mora mogoče",
    ),
    "Romanian": _latin(
        "ăîţâşțș",
        "de şi în a la cu pe din un o că nu este se care pentru mai sau sunt fi să după între când această al "
        "ale lui ei dar ca cum unde fost era au ai am va vor prin spre fără până doar foarte toate acest "
        "aceasta dacă ori iar ce cel cea",
    ),
    "Albanian": _latin("ëç", "e të në i dhe që për me një nga se është më nuk si ka ai u do por edhe shumë këtë"),
    "Turkish": _latin(
        "ıüşğöçİâî",
        "ve bir bu için da de ile en çok daha olarak gibi var sonra kadar ne o ama değil mi her iş şey ya "
        "olan olduğu tarafından kendi ben sen biz siz onlar iki ilk son yok mı mu mü diye önce göre ki hiç "
        "bütün ise veya ancak bunu onun",
    ),
    "Lithuanian": _latin(
        "ėšžųįūąčę",
        "ir yra kad į iš su o tai kaip bet už jis buvo ar po nuo apie jo dar tik ne būti nėra bus jog arba "
        "iki prie per be nes jei ji jie mes jūs tu aš šis ši šią tą kur kuris kuri visi savo gali turi",
    ),
    "Latvian": _latin(
        "āīēšūņžļčģķ",
        "un ir ka no uz ar par kas bet tas vai to kā pie nav lai pēc arī tiek šo jā būt bija būs jo ja pirms "
        "bez līdz viņš viņa viņi mēs jūs es tu šis šī šie tā kur kurš visi savu var ļoti",
    ),
    "Estonian": _latin(
        "äõüöšž",
        "ja on ei et see oli ta kui mis ka aga oma või siis ning välja pole üks nii kuid olid olen oled oleme "
        "ma sa me te nad need seda selle kes kus kuidas kas veel juba ainult väga kuni pärast enne ilma peab "
        "saab võib",
    ),
    "Esperanto": _latin(
        "ĝŭĉŝĵĥ", "la kaj de en ne estas al mi ke li por estis kun pri sed ĝi ĉi ĉiuj ankaŭ tiu kiel aŭ"
    ),
    "Maltese": _latin("ħżġċàòèù", "il u li ta ma fil minn huwa dan biex kien għal din hija mill bħala wara fuq kull"),
}
CYRILLIC = {
    "Russian": _other("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"),
    "Ukrainian": _other("оанивертікслпудмзяьбгчйхцжіїєюшфщґ'"),
    "Belarusian": _other("аінртсокеыулдвзямпбюьгйчжцўхшфэё"),
    "Bulgarian": _other("аиоентрсвлкдпмзъгбуячшщжцхйюфь"),
    "Serbian": _other("аоиенрсјтукдвлпмзгбчцшхљжњћђфџ"),
    "Macedonian": _other("аоиетнрсвдклпмузјгбчшцжќњхѓљфџѕ"),
}
CENTRAL_ASIAN = {"Kazakh": _other("аеыінтрлдсқмғуобпйшкяөзжүұәгңхивцчһэщюьъфё")}
TAJIK = {"Tajik": _other("аиорндтмекбвсушлзгкҳҷқӣғхфпчӯяёюэъйж")}
GREEK = {"Greek": _other("αοιετσνηυρπκμλςωδγχθφβξζψόίάήέώύϊϋΐΰ")}
HEBREW = {"Hebrew": _other("יוהלאמרתבשנםכדחעקפגטסזןצךףץ")}
ARABIC = {
    "Arabic": _other("المينوترةبعدسفكهقحأجشصطىخإذزءئثظغضؤآ،؟ًَُِّ"),
    "Persian": _other("اینردمهوتبسشکلزفگخقپعجحآچطصذثضظغژئأءؤ،؟\u200c"),
}
THAI = {"Thai": _other("านรอกเงมยลวดตทสปะบคหขจพแชไผโถซธศณภญฐฎฟษฝฉฮุูิี่้์ัำ็๊ๆใึื")}
BOXES = {"drawn tables": Alphabet("─│═║█░▒▓┌┐└┘├┤┬┴┼╔╗╚╝╠╣╦╩╬▄▀■▌▐╒╓╘╙╡╢╕╖╞╟", latin=False, before=-20.0)}

ALPHABETS: dict[str, dict[str, Alphabet]] = {  # in the order of preference if the text is the same
    "cp1252": WESTERN,
    "cp1250": CENTRAL | {"German": WESTERN["German"]},
    "iso8859-2": CENTRAL | {"German": WESTERN["German"]},
    "cp1254": {"Turkish": CENTRAL["Turkish"]},
    "cp1257": {name: CENTRAL[name] for name in ("Lithuanian", "Latvian", "Estonian")},
    "iso8859-13": {name: CENTRAL[name] for name in ("Lithuanian", "Latvian", "Estonian")},
    "iso8859-4": {name: CENTRAL[name] for name in ("Lithuanian", "Latvian", "Estonian")},
    "iso8859-3": {name: CENTRAL[name] for name in ("Esperanto", "Maltese")},
    "iso8859-15": WESTERN,
    "cp850": WESTERN | BOXES,
    "cp437": WESTERN | BOXES,
    "cp852": CENTRAL | BOXES,
    "cp857": {"Turkish": CENTRAL["Turkish"]},
    "cp775": {name: CENTRAL[name] for name in ("Lithuanian", "Latvian", "Estonian")},
    "mac-roman": WESTERN,
    "mac-latin2": CENTRAL,
    "mac-turkish": {"Turkish": CENTRAL["Turkish"]},
    "cp1251": CYRILLIC,
    "koi8-r": {"Russian": CYRILLIC["Russian"], "Bulgarian": CYRILLIC["Bulgarian"]},
    "kz1048": CENTRAL_ASIAN,
    "ptcp154": CENTRAL_ASIAN,
    "koi8-t": TAJIK,
    "koi8-u": {"Ukrainian": CYRILLIC["Ukrainian"]},
    "iso8859-5": CYRILLIC,
    "cp866": CYRILLIC | BOXES,
    "cp855": CYRILLIC,
    "mac-cyrillic": CYRILLIC,
    "cp1253": GREEK,
    "iso8859-7": GREEK,
    "cp737": GREEK,
    "mac-greek": GREEK,
    "cp1255": HEBREW,
    "iso8859-8": HEBREW,
    "cp862": HEBREW,
    "cp1256": ARABIC,
    "iso8859-6": ARABIC,
    "cp874": THAI,
}
DRAWS = frozenset({"cp850", "cp437", "cp852", "cp857", "cp775", "cp866", "cp855", "cp737", "cp862"})  # of DOS


@dataclass(frozen=True, slots=True)
class Characters:
    """A language with thousands of characters, in the standard that orders them."""

    common: str
    """From frequent to rare."""
    standard: str
    """The codec whose first byte tells how common a character is."""
    usual: range
    """Of first bytes: characters of everyday."""


HIRAGANA = (
    "のいしたるにはとてがなをかれでりもこすらまうくあさきっよけどそみせえだわつめやおばじちろげ"
    "ずびべねほひむふごぐぎゆぶへぞょゃゅぁ"
)
KATAKANA = (
    "ーンスルトリアイラクシドグジフレタマロカプテキバサムコパメチデオニミッウナワエハガゼモダビ"
    "ボネブヒツソペノケズセベポホゲザギヨヤュャョ"
)
KANJI = (
    "日一人年大十二本中長出三時行見月分後前生五間上東四今金入学高円子外八六下来気小七山話女北午百書先名川"
    "千水半男西電校語土木聞食車何南万白天母火私者事方手思言自会国地合同新場社員立目作用度家道春夏秋冬朝夜"
    "村町海雪店"
)
EAST_ASIAN: dict[str, dict[str, Characters]] = {
    "cp932": {"Japanese": Characters(HIRAGANA + KATAKANA + KANJI, "euc_jp", range(0xB0, 0xD0))},
    "euc_jp": {"Japanese": Characters(HIRAGANA + KATAKANA + KANJI, "euc_jp", range(0xB0, 0xD0))},
    "gb18030": {
        "Chinese": Characters(
            "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行"
            "过家十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从知使水山"
            "老开样手因理想本很民己意名把新文但物少动长样回头美什让给点气候间问话最第月车门书现实样请数据您",
            "gb2312",
            range(0xB0, 0xD8),
        )
    },
    "big5hkscs": {
        "Chinese": Characters(
            "的一是不了人我在有他這為之大來以個中上們到說國和地也子時道出而要於就下得可你年生自會那後能對著事其裡所去行"
            "過家十用發天如然作方成者多日都三小軍二無同麼經法當起與好看學進種將還分此心前面又定見只主沒公從知使水山"
            "老開樣手因理想本很民己意名把新文但物少動長回頭美什讓給點氣候間問話最第月車門書現實請數據您",
            "big5",
            range(0xA4, 0xC7),
        )
    },
    "cp949": {
        "Korean": Characters(
            "이다는의에을를고가은로하지도한사나라어인자그기서대리시수아있으일정제스보해것면었게여만니들과주부전성구상장소"
            "우미공문화원조모동거오내요위무생신습합된되았였않없말때적등며세학비국선간방경관러려와야운음남물산강",
            "euc_kr",
            range(0xB0, 0xC9),
        )
    },
}
SHAPED = "、。，．？！：；「」『』（）《》“”‘’…—　・～"  # punctuation of East Asia
HALF_WIDTH = "".join(chr(point) for point in range(0xFF61, 0xFFA0))  # katakana of one byte
USUAL_SIGNS = "“”„‘’–—…«»\u00a0©°€£"
SIGNS = USUAL_SIGNS + "‚§·•®™²³½¼¾¿¡×"  # beyond ASCII, and in place between words of any language
