"""Prompts that try a tokenizer: many scripts, emoji, marks, white space, special tokens."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

AWKWARD = [
    *("", " ", "\n\t \r", "\u00a0", "\u200b", "\ufeff", "a", "'", "''", "'s", " 's", "!", "!!"),
    "a photo of a cat",
    "A PHOTO   of\ta\n\nCAT",
    "it's they're I've I'm we'll he'd don't IT'S THEY'RE I\u2019m o'clock 'tis ''s '''re 'S 'RE",
    "'ss 'tt 'rev 'mm 'llama 'dd 's't're've'm'll'd a's's 9's é's 's9",
    "4k 8K 1024x1024 3.14 v1.5 ½ ² ٣ Ⅷ ① 1234567890 ९ 四",
    "café CAFÉ cafe\u0301 CAFE\u0301 ﬁne ﬀ ﬃ Straße STRASSE ẞ",
    "İstanbul ISPARTA ılık I\u0307 i\u0307 Iı",
    "ΟΔΥΣΣΕΥΣ Οδυσσεύς ΣΑΣ Σ ς ΑΣ. ΑΣΑ \u03a9 \u2126 \u212a \u212b",
    "日本語 の 猫 고양이 кошка 🐈\u200d⬛ 👩🏽\u200d🚀 🇫🇷 👨\u200d👩\u200d👧\u200d👦",
    "🏴\u200d☠️ 1️⃣ ❤️\u200d🔥",
    "각 \u1100\u1161\u11a8 \u1100\u1161 ｶﾞ ガ カ\u3099 が か\u3099 葛\U000e0100",
    "zero\u200bwidth\u200djoin\u200cnon\ufeff\u00a0nbsp\u2028line\u2029para\u0085next\u1680og",
    "thin\u2009hair\u200anarrow\u202fmath\u205fidea\u3000em\u2003soft\u00adhyphen\u2060word",
    "null \x00 and \x07 bell \x7f esc\x1b[0m \x1c\x1d\x1e\x1f \x0b\x0c \x80\x9f",
    "<|endoftext|> inside <|startoftext|>",
    "<|endoftext|><|endoftext|>! <|startoftext|>a<|startoftext|>",
    "<|ENDOFTEXT|> <|StartOfText|> !<|ENDOFTEXT|>! <|ENDOFTEXT|>'s <|STARTOFTEXT|>9",
    "<|endoftext| > <|endoftext <|<|endoftext|>|> |endoftext| <|end<|startoftext|>oftext|>",
    "<|endoftext|>\u0301 e<|endoftext|>\u0301 \u0301<|startoftext|> !\u0301 a!\u0338",
    "</w> a</w> <w/> &amp; <b>bold</b> cat</w></w>dog </W>",
    "(masterpiece:1.2), [[low]], {x|y}, a_b-c--d...!!!???",
    "wow!!! a!b !a! hello world!",
    "ＦＵＬＬ ｗｉｄｔｈ ａｎｄ ｈａｌｆ ｶﾀｶﾅ ａ１ ！",
    "עברית שָׁלוֹם العربية مَرْحَبًا हिन्दी नमस्ते ไทย สวัสดี বাংলা தமிழ் ქართული ᲥᲐᲠᲗᲣᲚᲘ Հայերեն",
    "𝕬𝖓𝖈𝖎𝖊𝖓𝖙 𝓽𝓮𝔁𝓽 𐐀𐐨 Ǆ ǅ ǆ ǈ Ꭰ ꭰ Ა",
    "\U0010ffff \ue000 \ufffd \u0378 \ufdd0 \ufffe",
    "a\u0323\u0307 a\u0307\u0323 ậ Å q\u0307\u0323 \u0344 \u0958 \u2adc \ufb1f \u1e9b\u0323",
    "word " * 74,
    "word " * 75,
    "word " * 76,
    "supercalifragilisticexpialidocious " * 40,
    "🐈" * 100,
    "z" * 1000,
    "ab" * 700,
    "," * 500,
    "1" * 100,
    "\u0301" * 90,
    f"{'word ' * 74}a Golden vase, Ünïcode 🐈! <|startoftext|> </w> \x1c\u00a0",
    f"{'word ' * 74}🐈🐈 ﷽ \x1f",
]

_WORDS = """
a an the of in on with and portrait photograph painting oil watercolor digital art concept cinematic
lighting dramatic volumetric intricate detailed highly masterpiece 8k uhd hdr trending artstation
sharp focus bokeh depth field wide angle cat dog horse astronaut dragon castle forest ocean sunset
red green blue square circle triangle small large left right above below two three background
It's don't we'll they're I've I'm he'd cat's O'Brien rock'n'roll y'all can't
café naïve Zürich Ångström São Łódź smørrebrød piñata façade Đà Nẵng résumé Dvořák coöperate
кошка Москва Ёлка ЩУКА Київ ї български γάτα ΓΑΤΑ Οδυσσεύς Ελλάδα ΣΊΣΥΦΟΣ İstanbul ışık Iğdır
猫 日本語 東京タワー 写真 ひらがな カタカナ 고양이 서울 안녕하세요 قطة العربية فارسی مَرْحَبًا חתול שָׁלוֹם
बिल्ली हिन्दी नमस्ते क्षत्रिय แมว ภาษาไทย น้ำ বিড়াল பூனை ကြောင် កម្ពុជា ქართული Հայաստան አማርኛ ᐃᓄᒃᑎᑐᑦ
ﬁne ﬂower ﬃ ½ ² ³ ٣ ४ Ⅳ ① 3.14 1024x768 v1.5 #1 50% $9.99 @home a_b-c
f/1.8 ISO100 (x:1.2) [y] {z|w}
🐈 👩🏽\u200d🚀 🏳️\u200d🌈 🇯🇵 ❤️ ✨ 👍🏿 ☕︎ 🧑\u200d🤝\u200d🧑
… — – “quoted” ‘single’ «guillemets» ¿qué? ¡hola! ® ™ ° ← ∑ √ ∞
<|endoftext|> <|startoftext|> </w> ! !! ... ,, ;; ?! --- === ~~~ ` ^ \\ / | <> &
"""

_CHANGES: list[Callable[[str], str]] = [str, str, str, str.upper, str.title, str.lower]
_SPACES = [" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u200b"]
GAPS = [*[" "] * 5, *_SPACES, "", ", ", " - ", "."]
# First and last code point of blocks that single characters are taken from.
BLOCKS = [
    *((0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F)),
    *((0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1FFF)),
    *((0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x4EFF)),
    *((0xA640, 0xA7FF), (0xAC00, 0xACFF), (0xE000, 0xE00F), (0xF900, 0xFAFF), (0xFB00, 0xFDFF)),
    *((0xFE00, 0xFFFD), (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F1FF)),
    *((0x1F300, 0x1FAFF), (0x20000, 0x2000F), (0x2F800, 0x2FA1D), (0xE0020, 0xE007F)),
]
SOUP = [*"ab </w>|!'<>startofendx09é\u0301\u0323 ", "<|endoftext|>", "<|startoftext|>", "'s", "'LL"]


def prompts() -> list[str]:
    """The prompts, always the same."""
    chosen = random.Random(8)
    found = list(AWKWARD)
    found += [_sentence(chosen) for _ in range(600)]
    found += [_characters(chosen) for _ in range(500)]
    found += ["".join(chosen.choices(SOUP, k=chosen.randint(1, 60))) for _ in range(200)]
    found += [unicodedata.normalize("NFD", text) for text in found[:300]]
    return list(dict.fromkeys(found))


def _sentence(chosen: random.Random) -> str:
    count = chosen.choice([1, 2, 3, 5, 8, 13, 21, 34])
    parts = []
    for word in chosen.choices(_WORDS.split(), k=count):
        parts += [chosen.choice(_CHANGES)(word), chosen.choice(GAPS)]
    return "".join(parts)


def _characters(chosen: random.Random) -> str:
    """Characters of a few blocks; those that Unicode 14 does not know yet are left out."""
    blocks = chosen.sample(BLOCKS, k=chosen.randint(1, 4))
    found = [chr(chosen.randint(*chosen.choice(blocks))) for _ in range(chosen.randint(1, 80))]
    return "".join(each for each in found if unicodedata.category(each) not in {"Cn", "Cs"})
