"""Short texts in many languages, written for these tests, and the old encodings in which people have such text."""

from __future__ import annotations

TEXTS = {
    "Polish": "Wczoraj wieczorem długo padał śnieg i cała wieś zniknęła pod białą kołdrą. Mój dziadek wyszedł przed dom, "
    "żeby odgarnąć ścieżkę do studni, ale po chwili wrócił po rękawice. Powiedział, że takiej zimy nie pamięta od "
    "dzieciństwa. Usiedliśmy przy piecu, a babcia przyniosła gorącą herbatę z sokiem malinowym. Kot spał na parapecie "
    "i nie zważał na nic. Pomyślałem wtedy, że mógłbym tu zostać na zawsze i pisać długie listy.",
    "Hungarian": "Tegnap este sokáig esett a hó, és az egész falu eltűnt a fehér takaró alatt. Nagyapám kiment a ház elé, "
    "hogy ösvényt vágjon a kútig, de hamarosan visszajött a kesztyűjéért. Azt mondta, hogy ilyen télre gyerekkora óta nem "
    "emlékszik. Leültünk a kályha mellé, nagyanyám pedig forró teát hozott málnaszörppel. A macska az ablakpárkányon "
    "aludt, és semmivel sem törődött. Akkor arra gondoltam, hogy örökre itt tudnék maradni, és hosszú leveleket írnék.",
    "Czech": "Včera večer dlouho sněžilo a celá vesnice zmizela pod bílou peřinou. Dědeček vyšel před dům, aby odházel "
    "cestičku ke studni, ale za chvíli se vrátil pro rukavice. Říkal, že takovou zimu nepamatuje od dětství. Sedli jsme "
    "si ke kamnům a babička přinesla horký čaj s malinovou šťávou. Kočka spala na okně a ničeho si nevšímala. Tehdy mě "
    "napadlo, že bych tu mohl zůstat navždy a psát dlouhé dopisy.",
    "Croatian": "Sinoć je dugo padao snijeg i čitavo je selo nestalo pod bijelim pokrivačem. Djed je izašao pred kuću da "
    "očisti stazu do bunara, ali se ubrzo vratio po rukavice. Rekao je da takvu zimu ne pamti još od djetinjstva. Sjeli "
    "smo uz peć, a baka je donijela vrući čaj i kolače s makom. Mačka je spavala na prozoru i ništa je nije smetalo. "
    "Tada sam pomislio da bih mogao zauvijek ostati ovdje, među ovim brežuljcima, i pisati duga pisma.",
    "Turkish": "Dün akşam uzun süre kar yağdı ve bütün köy beyaz bir örtünün altında kayboldu. Dedem kuyuya giden yolu "
    "açmak için evin önüne çıktı ama biraz sonra eldivenlerini almak için geri döndü. Çocukluğundan beri böyle bir kış "
    "görmediğini söyledi. Sobanın yanına oturduk, ninem de ahududu şuruplu sıcak çay getirdi. Kedi pencerenin önünde "
    "uyuyor, hiçbir şeye aldırmıyordu. O zaman burada sonsuza kadar kalabileceğimi ve uzun mektuplar yazacağımı düşündüm.",
    "German": "Gestern Abend schneite es lange, und das ganze Dorf verschwand unter einer weißen Decke. Großvater ging vor "
    "die Tür, um den Weg zum Brunnen frei zu schaufeln, kam aber bald zurück und suchte seine Handschuhe. Er sagte, an "
    "einen solchen Winter könne er sich seit seiner Kindheit nicht erinnern. Wir setzten uns an den Ofen, und Großmutter "
    "brachte heißen Tee. Die Katze schlief auf dem Fensterbrett und kümmerte sich um nichts. Da dachte ich, dass ich für "
    "immer hier bleiben und lange Briefe schreiben könnte.",
    "French": "Hier soir, il a neigé longtemps et tout le village a disparu sous une couverture blanche. Mon grand-père est "
    "sorti devant la maison pour dégager le chemin du puits, mais il est bientôt revenu chercher ses gants. Il disait "
    "qu'il n'avait pas vu un tel hiver depuis son enfance. Nous nous sommes assis près du poêle, et ma grand-mère a "
    "apporté du thé très chaud. Le chat dormait à la fenêtre et ne s'inquiétait de rien. J'ai pensé que je pourrais "
    "rester là pour toujours et écrire de longues lettres.",
    "Russian": "Вчера вечером долго шёл снег, и вся деревня исчезла под белым покрывалом. Дедушка вышел из дома, чтобы "
    "расчистить дорожку к колодцу, но скоро вернулся за рукавицами. Он сказал, что такой зимы не помнит с самого детства. "
    "Мы сели у печки, а бабушка принесла горячий чай с малиновым вареньем. Кошка спала на подоконнике и ни на что не "
    "обращала внимания. Тогда я подумал, что мог бы остаться здесь навсегда и писать длинные письма.",
    "Ukrainian": "Учора ввечері довго йшов сніг, і все село зникло під білою ковдрою. Дідусь вийшов з хати, щоб розчистити "
    "стежку до криниці, але невдовзі повернувся по рукавиці. Він сказав, що такої зими не пам'ятає ще з дитинства. Ми сіли "
    "біля печі, а бабуся принесла гарячий чай з малиновим варенням. Кішка спала на підвіконні й нічим не переймалася.",
    "Greek": "Χθες το βράδυ χιόνιζε για πολλή ώρα και όλο το χωριό χάθηκε κάτω από ένα λευκό σεντόνι. Ο παππούς βγήκε "
    "μπροστά στο σπίτι για να καθαρίσει το μονοπάτι ως το πηγάδι, αλλά σε λίγο γύρισε για τα γάντια του. Είπε ότι τέτοιο "
    "χειμώνα δεν θυμάται από παιδί. Καθίσαμε δίπλα στη σόμπα και η γιαγιά έφερε ζεστό τσάι.",
    "Hebrew": "אתמול בערב ירד שלג זמן רב וכל הכפר נעלם מתחת לשמיכה לבנה. סבא יצא אל מול הבית כדי לפנות את השביל אל הבאר, "
    "אבל חזר כעבור רגע לקחת את הכפפות. הוא אמר שאינו זוכר חורף כזה מאז ימי ילדותו. ישבנו ליד התנור וסבתא הביאה תה חם.",
    "Arabic": "تساقط الثلج طويلا مساء أمس واختفت القرية كلها تحت غطاء أبيض. خرج جدي أمام البيت لكي يفتح الطريق إلى البئر، "
    "لكنه عاد بعد قليل ليأخذ قفازيه. قال إنه لا يذكر شتاء مثل هذا منذ طفولته. جلسنا قرب المدفأة وأحضرت جدتي شايا ساخنا.",
    "Thai": "เมื่อวานตอนเย็นฝนตกนานมากและทั้งหมู่บ้านก็เงียบสงบ คุณปู่ออกไปหน้าบ้านเพื่อดูทางไปบ่อน้ำ แต่ไม่นานก็กลับมาเอาร่ม "
    "ท่านบอกว่าไม่เคยเห็นฝนแบบนี้มาตั้งแต่เด็ก เรานั่งข้างเตาไฟ และคุณย่าก็ยกน้ำชาร้อนมาให้",
    "Latvian": "Vakar vakarā ilgi sniga, un viss ciems pazuda zem baltas segas. Vectēvs izgāja mājas priekšā, lai attīrītu "
    "taku uz aku, bet drīz atgriezās pēc cimdiem. Viņš teica, ka tādu ziemu neatceras kopš bērnības. Mēs apsēdāmies pie "
    "krāsns, un vecmāmiņa atnesa karstu tēju ar aveņu sulu. Kaķis gulēja uz palodzes un ne par ko nelikās zinis.",
    "Kazakh": "Кеше кешке дейін қар ұзақ жауып, бүкіл ауыл ақ көрпенің астында қалды. Атам құдыққа баратын жолды тазалау "
    "үшін үйдің алдына шықты, бірақ көп ұзамай қолғабын алуға қайтып келді. Ол мұндай қысты бала кезінен бері көрмегенін "
    "айтты. Біз пештің жанына отырдық, ал әжем ыстық шай әкелді.",
    "Japanese": "昨日の夜は長いあいだ雪が降り、村はすっかり白い毛布の下に消えてしまいました。祖父は井戸までの道をあけようと家の前に出ましたが、"
    "すぐに手袋を取りに戻ってきました。こんな冬は子どものころから覚えがないと言いました。わたしたちはストーブのそばに座り、祖母が熱いお茶を"
    "持ってきてくれました。ネコは窓のところで眠っていて、何も気にしていません。ここにずっと残って、長い手紙を書いていたいと思いました。",
    "Chinese": "昨天晚上下了很久的雪，整个村子都消失在白色的被子下面。爷爷走到门前，想把通往水井的小路扫干净，可是不一会儿又回来拿手套。他说从小"
    "到现在都没有见过这样的冬天。我们坐在火炉旁边，奶奶端来了热茶。猫在窗台上睡觉，什么也不管。那时候我想，我可以永远留在这里，写很长很长的信。",
    "Traditional Chinese": "昨天晚上下了很久的雪，整個村子都消失在白色的被子下面。爺爺走到門前，想把通往水井的小路掃乾淨，可是不一會兒又回來拿手套。"
    "他說從小到現在都沒有見過這樣的冬天。我們坐在火爐旁邊，奶奶端來了熱茶。貓在窗臺上睡覺，什麼也不管。那時候我想，我可以永遠留在這裡，寫很長的信。",
    "Korean": "어제 저녁에는 눈이 오랫동안 내려서 온 마을이 하얀 이불 아래로 사라졌다. 할아버지는 우물로 가는 길을 치우려고 집 앞에 나가셨지만 곧 "
    "장갑을 가지러 돌아오셨다. 어릴 때부터 이런 겨울은 본 적이 없다고 하셨다. 우리는 난로 옆에 앉았고 할머니는 뜨거운 차를 가져오셨다. "
    "고양이는 창가에서 잠을 자며 아무것도 신경 쓰지 않았다. 그때 나는 여기에 영원히 남아 긴 편지를 쓰고 싶다고 생각했다.",
    "half-width Japanese": "ﾆﾎﾝｺﾞﾉ ﾌﾙｲ ｷﾛｸ ﾊ ﾊﾝｶｸ ｶﾀｶﾅ ﾃﾞ ｶｶﾚﾃ ｲﾏｽ｡ ﾖﾐﾆｸｲ ｹﾚﾄﾞ ﾓｼﾞ ﾃﾞｽ｡ ｼｮｳﾜ ﾉ ｺﾛ ﾉ ﾃﾞﾝﾋﾟｮｳ ﾃﾞｽ｡",
}
ENCODINGS = {
    "Polish": ("iso8859-2", "cp1250", "cp852", "mac_latin2"),
    "Hungarian": ("iso8859-2", "cp1250", "cp852"),
    "Czech": ("cp1250", "iso8859-2", "cp852"),
    "Croatian": ("cp1250", "iso8859-2"),
    "Turkish": ("iso8859-9", "cp1254", "cp857"),
    "German": ("cp1252", "latin-1", "iso8859-15", "cp850", "cp437", "mac_roman"),
    "French": ("cp1252", "latin-1", "iso8859-15", "cp850", "cp437", "mac_roman"),
    "Russian": ("cp1251", "koi8_r", "cp866", "iso8859-5", "mac_cyrillic"),
    "Ukrainian": ("cp1251", "koi8_u"),
    "Greek": ("cp1253", "iso8859-7", "cp737"),
    "Hebrew": ("cp1255", "iso8859-8", "cp862"),
    "Arabic": ("cp1256", "iso8859-6"),
    "Thai": ("tis-620", "cp874"),
    "Latvian": ("cp1257", "iso8859-13", "iso8859-4", "cp775"),
    "Kazakh": ("kz1048", "ptcp154"),
    "Japanese": ("shift_jis", "cp932", "euc_jp", "iso2022_jp"),
    "half-width Japanese": ("shift_jis",),
    "Chinese": ("gbk", "gb2312", "gb18030"),
    "Traditional Chinese": ("big5", "cp950"),
    "Korean": ("euc_kr", "cp949", "iso2022_kr"),
}
CASES = [(language, encoding) for language, encodings in ENCODINGS.items() for encoding in encodings]


def sentences(language: str) -> list[str]:
    """The text of a language, a sentence each."""
    text = TEXTS[language].replace("。", "。\n").replace("｡", "｡\n").replace(". ", ".\n")
    return [line.strip() for line in text.split("\n") if line.strip()]


def page(language: str) -> str:
    """Some 2,000 characters: the sentences in turns, a line each."""
    lines = sentences(language)
    turned = [line for number in range(len(lines)) for line in lines[number:] + lines[:number]]
    return "\n".join(turned) + "\n"
